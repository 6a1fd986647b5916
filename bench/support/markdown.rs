//! The report for people.

use std::fmt::{Result, Write};

use super::cell::{Latency, Pace};
use super::fairness::Mode;
use super::report::{Line, Report};
use super::rows::Figure;
use super::scaling::Scaled;
use super::statistics::Spread;
use super::work::Via;

/// The tables, with the machine and the command that made them.
pub(crate) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    write(report, &mut text).unwrap_or_default();
    text
}

fn write(report: &Report, out: &mut String) -> Result {
    head(report, out)?;
    costs(report, out)?;
    latencies(report, out)?;
    in_process(report, out)?;
    server(&report.server, out)?;
    scaling(&report.scaling, out)?;
    aims(report, out)
}

fn head(report: &Report, out: &mut String) -> Result {
    let options = &report.options;
    writeln!(out, "{}\n", report.machine.line())?;
    writeln!(out, "Beside it: {}.\n", report.peers)?;
    writeln!(out, "Made by `{}`.\n", report.command)?;
    writeln!(
        out,
        "Loopback, one thread each, the load on the other core; medians of {} interleaved rounds of {} s. CPU is user and \
         system time of a process, from the kernel, per request. × direct: CPU of the proxy and the redis-server behind \
         it together, over the CPU of a redis-server that is asked directly over TCP, paired within a round \
         (lowest–highest).\n",
        options.rounds, options.seconds
    )
}

fn costs(report: &Report, out: &mut String) -> Result {
    writeln!(
        out,
        "| work | connections | pipeline | direct, k/s | through, k/s | redis-server direct, µs CPU | proxy, µs CPU | \
         redis-server behind, µs CPU | × direct | aim | |"
    )?;
    writeln!(
        out,
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |"
    )?;
    for line in &report.lines {
        let (Pace::Pipeline(pipeline), None) = (line.cell.pace, line.latency) else {
            continue;
        };
        if matches!(line.cell.via, Via::InProcess(_)) {
            continue;
        }
        let (aim, verdict) = verdict(line);
        writeln!(
            out,
            "| {} | {} | {pipeline} | {} | {} | {:.2} | {:.2} | {:.2} | {} | {aim} | {verdict} |",
            line.name,
            line.cell.connections,
            thousands(line.per_second_baseline),
            thousands(line.per_second),
            line.baseline_cpu_us.median,
            line.front_cpu_us.median,
            line.back_cpu_us.median,
            ratio(line.total_ratio),
        )?;
    }
    writeln!(out)
}

/// The first aim of a row, and what came of it; further aims are in the list below.
fn verdict(line: &Line) -> (String, &'static str) {
    let first = line.verdicts.iter().find(|verdict| verdict.figure != Figure::Back);
    first.map_or((String::new(), ""), |verdict| {
        let aim = verdict.aim.split(" ×").next().unwrap_or_default();
        (aim.to_owned(), met(verdict.met))
    })
}

fn latencies(report: &Report, out: &mut String) -> Result {
    let timed: Vec<&Line> = report.lines.iter().filter(|line| line.latency.is_some()).collect();
    if timed.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "Latency in µs: one connection that waits for each reply, and {} requests a second over 50 connections, counted \
         from when each was due. What was sent late is the longest that the load itself was behind: where that is more \
         than the p99, the machine was short of CPU, and the tail is the load's.\n",
        report.options.rate
    )?;
    writeln!(
        out,
        "| latency | p50 | p90 | p99 | p99.9 | max | sent late by | p50 × direct | aim | |"
    )?;
    writeln!(out, "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |")?;
    let mut baseline = "";
    for line in timed {
        if let (true, Some(direct)) = (line.baseline != baseline, &line.baseline_latency) {
            baseline = &line.baseline;
            let start = line.name.split(',').next().unwrap_or_default();
            latency(out, &format!("{start}, direct"), direct, "1.00", ("", ""))?;
        }
        if let Some(through) = &line.latency {
            let (aim, verdict) = verdict(line);
            latency(out, line.name, through, &ratio(line.p50_ratio), (&aim, verdict))?;
        }
    }
    writeln!(out)
}

fn latency(out: &mut String, name: &str, at: &Latency, ratio: &str, (aim, verdict): (&str, &str)) -> Result {
    writeln!(
        out,
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {ratio} | {aim} | {verdict} |",
        at.p50_us, at.p90_us, at.p99_us, at.p999_us, at.max_us, at.sent_late_us
    )
}

fn in_process(report: &Report, out: &mut String) -> Result {
    let inside = |line: &&Line| matches!(line.cell.via, Via::InProcess(_));
    if !report.lines.iter().any(|line| inside(&line)) {
        return Ok(());
    }
    writeln!(
        out,
        "| in-process, pipeline 16, 50 streams a worker | k/s | µs CPU of the workers | aim | came to | |"
    )?;
    writeln!(out, "| --- | --: | --: | --: | --: | --- |")?;
    for line in report.lines.iter().filter(inside) {
        for verdict in &line.verdicts {
            writeln!(
                out,
                "| {} | {} | {:.2} | {} | {} | {} |",
                line.name,
                thousands(line.per_second),
                line.front_cpu_us.median,
                verdict.aim,
                ratio(verdict.measured),
                met(verdict.met)
            )?;
        }
    }
    writeln!(
        out,
        "\nThe clients are threads of the same process: with {} cores they and the workers share them, so throughput is \
         not what the workers could do.\n",
        report.machine.cores
    )
}

fn server(modes: &[Mode], out: &mut String) -> Result {
    const MIB: f64 = (1 << 20) as f64;
    if modes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "What it costs the server: GET and SET 10:1 of a million keys by Zipf's law, 50 connections, pipeline 16, each \
         with a redis-server of its own.\n"
    )?;
    writeln!(
        out,
        "| nearhit with | redis-server, µs CPU a request | × off | nearhit, µs CPU | GETs at the server | keys tracked | \
         used_memory, MiB | more than before, MiB | nearhit, MiB |"
    )?;
    writeln!(out, "| --- | --: | --: | --: | --: | --: | --: | --: | --: |")?;
    for mode in modes {
        writeln!(
            out,
            "| {} | {:.2} | {} | {:.2} | {:.0} % | {} | {:.0} | {:.1} | {:.0} |",
            mode.name,
            mode.server_cpu_us.median,
            ratio(mode.server_ratio),
            mode.nearhit_cpu_us.median,
            mode.gets_at_server.median * 100.0,
            mode.tracked_keys,
            mode.used_memory as f64 / MIB,
            mode.grown as f64 / MIB,
            mode.nearhit_resident as f64 / MIB
        )?;
    }
    writeln!(out)
}

fn scaling(ways: &[Scaled], out: &mut String) -> Result {
    if ways.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "More nodes: the same requests through nearhit before a master and two replicas, and before a cluster of three \
         primaries. All five processes share this machine's cores, so CPU is the figure to look at.\n"
    )?;
    writeln!(
        out,
        "| reads go to | k/s | first node, µs CPU a request | the other two, µs CPU | nearhit, µs CPU | GETs at the first | \
         at the others |"
    )?;
    writeln!(out, "| --- | --: | --: | --: | --: | --: | --: |")?;
    for way in ways {
        writeln!(
            out,
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} % | {:.0} % |",
            way.name,
            way.per_second.median,
            way.first_cpu_us.median,
            way.others_cpu_us.median,
            way.nearhit_cpu_us.median,
            way.gets_at_first.median * 100.0,
            way.gets_at_others.median * 100.0
        )?;
    }
    writeln!(out)
}

/// Every aim in one list.
fn aims(report: &Report, out: &mut String) -> Result {
    let verdicts = || report.lines.iter().flat_map(|line| &line.verdicts);
    let kept = verdicts().filter(|verdict| verdict.met).count();
    writeln!(out, "{kept} of {} aims met; missed:\n", verdicts().count())?;
    for line in &report.lines {
        for verdict in line.verdicts.iter().filter(|verdict| !verdict.met) {
            writeln!(
                out,
                "- {}: {}, came to {}",
                line.what,
                verdict.aim,
                ratio(verdict.measured)
            )?;
        }
    }
    Ok(())
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn thousands(spread: Spread) -> String {
    let thousands = spread.median / 1e3;
    if thousands < 10.0 {
        format!("{thousands:.1}")
    } else {
        format!("{thousands:.0}")
    }
}

/// A ratio as the tables show it.
fn ratio(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.2} ({min:.2}–{max:.2})")
}
