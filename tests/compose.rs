//! `docker-compose.yml` and `deploy/Dockerfile` without a container engine: the file is parsed, every path in it is
//! looked up, and every Redis command line in it is run with the local server.
//!
//! Running means: the same words, with the container's paths, ports and names replaced by a temporary directory, free
//! ports and 127.0.0.1.

mod support;

use saphyr::{LoadableYamlNode, Yaml};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Nearhit, Resp, child, eventually, redis, wait_for};
use tempfile::TempDir;

#[test]
fn the_demo_has_a_primary_two_replicas_a_sentinel_and_nearhit() {
    let names: Vec<_> = Compose::read().services.into_keys().collect();
    assert_eq!(
        names,
        [
            "nearhit",
            "redis-master",
            "redis-replica-1",
            "redis-replica-2",
            "sentinel"
        ]
    );
}

#[test]
fn every_mounted_and_built_path_exists() {
    for (name, service) in Compose::read().services {
        assert!(
            service.image.is_empty() == service.build.is_some(),
            "{name}: an image or a build"
        );
        for volume in &service.volumes {
            let host = volume.split(':').next().expect("a host path");
            assert!(host.starts_with("./"), "{name}: {volume} is no path of the repository");
            assert!(support::root().join(host).is_dir(), "{name}: {host} is no folder");
        }
        if let Some((context, dockerfile)) = &service.build {
            assert!(
                support::root().join(context).join(dockerfile).is_file(),
                "{name}: no {dockerfile}"
            );
        }
    }
}

#[test]
fn services_wait_for_services_that_exist_and_are_checked() {
    let services = Compose::read().services;
    for (name, service) in &services {
        for needed in &service.depends_on {
            let needed_service = services
                .get(needed)
                .unwrap_or_else(|| panic!("{name} waits for unknown {needed}"));
            assert!(
                !needed_service.healthcheck.is_empty(),
                "{name} waits for {needed}, which has no healthcheck"
            );
        }
    }
}

#[test]
fn only_the_local_machine_reaches_published_ports() {
    for (name, service) in Compose::read().services {
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port} to everybody");
        }
    }
}

#[test]
fn nearhit_listens_where_its_ports_lead_and_calls_a_service_by_name() {
    let services = Compose::read().services;
    let nearhit = &services["nearhit"];
    let after = |option: &str| {
        let at = nearhit.command.iter().position(|word| word == option);
        nearhit.command[at.unwrap_or_else(|| panic!("no {option}")) + 1].clone()
    };
    let inside: Vec<_> = nearhit
        .ports
        .iter()
        .map(|port| port.rsplit(':').next().expect("a port").to_owned())
        .collect();
    assert_eq!(after("--listen"), format!("0.0.0.0:{}", inside[0]));
    assert_eq!(after("--metrics.listen"), format!("0.0.0.0:{}", inside[1]));
    assert_eq!(after("--upstream"), "redis+sentinel://sentinel:26379/mymaster");
    let dockerfile = support::read("deploy/Dockerfile");
    assert!(
        dockerfile.contains(&format!("EXPOSE {}", inside.join(" "))),
        "EXPOSE differs from {inside:?}"
    );
}

#[test]
fn every_redis_command_line_starts_a_working_server() {
    let services = Compose::read().services;
    let stage = Stage::new(&services);
    let mut running = Vec::new();
    for (name, service) in in_order(&services).filter(|(_, service)| service.build.is_none()) {
        running.push(stage.start(name, service));
        let pid = running.last().expect("just started").0.id();
        let ready = eventually(Duration::from_secs(10), || {
            redis::process_id(stage.addr(name)) == Some(pid)
        });
        assert!(ready, "{name} does not answer PING: {}", stage.log(name));
        assert_eq!(stage.healthcheck(name, service).trim(), "PONG", "{name}'s healthcheck");
    }
    for replica in ["redis-replica-1", "redis-replica-2"] {
        wait_for("a replica's link", Duration::from_secs(15), || {
            let info = Resp::connect(stage.addr(replica)).cmd(&["INFO", "replication"]).text();
            redis::info_field(&info, "master_link_status").as_deref() == Some("up")
        });
    }
    wait_for(
        "the sentinel to see the primary and both replicas",
        Duration::from_secs(30),
        || {
            let state = Resp::connect(stage.addr("sentinel")).cmd(&["SENTINEL", "MASTER", "mymaster"]);
            let is = |field: &str, value: &str| state.get(field).is_some_and(|found| found == value);
            is("flags", "master") && is("num-slaves", "2")
        },
    );
    // nearhit's own words, but for the places.
    let upstream = format!("redis+sentinel://{}/mymaster", stage.addr("sentinel"));
    let words = services["nearhit"]
        .command
        .iter()
        .skip(1)
        .map(|word| match word.as_str() {
            "redis+sentinel://sentinel:26379/mymaster" => upstream.as_str(),
            "0.0.0.0:6380" | "0.0.0.0:9381" => "127.0.0.1:0",
            word => word,
        });
    let mut command = Nearhit::command();
    command.args(words).args(["--log.format", "text"]);
    let proxy = Nearhit::start(command);
    let mut client = proxy.connect3();
    wait_for("nearhit to know all three", Duration::from_secs(30), || {
        let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
        let ok = |node: &support::Reply| node.get("state").is_some_and(|state| state == "ok");
        nodes.iter().filter(|node| ok(node)).count() == 3
    });
    assert_eq!(client.cmd(&["SET", "greeting", "hello"]), "OK");
    assert_eq!(client.cmd(&["GET", "greeting"]), "hello");
}

#[test]
fn the_dockerfile_copies_what_exists_and_runs_what_it_copied() {
    let dockerfile = support::read("deploy/Dockerfile");
    let ignored = support::read(".dockerignore");
    let mut stages = Vec::new();
    for line in dockerfile.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["FROM", _, "AS", stage] => stages.push((*stage).to_owned()),
            ["COPY", from, ..] if from.starts_with("--from=") => {
                assert!(
                    stages.iter().any(|stage| from.ends_with(stage)),
                    "no such stage: {line}"
                );
            }
            ["COPY", sources @ .., _] => {
                for source in sources {
                    assert!(support::root().join(source).exists(), "no such path: {line}");
                }
            }
            _ => {}
        }
    }
    for needed in ["Cargo.toml", "Cargo.lock", "src", "redis-conf", "tests", "bench"] {
        assert!(
            !ignored.lines().any(|line| line.trim_start_matches('/') == needed),
            ".dockerignore hides {needed}"
        );
    }
    assert!(dockerfile.contains("ENTRYPOINT [\"/nearhit\"]") && dockerfile.contains("/nearhit /nearhit"));
}

#[test]
fn the_dockerfile_builds_with_the_rust_that_the_package_asks_for() {
    let manifest: toml::Table = support::read("Cargo.toml").parse().expect("a manifest");
    let wanted = manifest["package"]["rust-version"]
        .as_str()
        .expect("a rust-version")
        .to_owned();
    assert!(support::read("deploy/Dockerfile").contains(&format!("FROM rust:{wanted}-")));
}

/// The parts of the compose file that are checked.
struct Compose {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Default)]
struct Service {
    image: String,
    /// The context and the Dockerfile in it.
    build: Option<(String, String)>,
    command: Vec<String>,
    volumes: Vec<String>,
    ports: Vec<String>,
    depends_on: Vec<String>,
    healthcheck: Vec<String>,
}

impl Compose {
    fn read() -> Self {
        let text = support::read("docker-compose.yml");
        let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("docker-compose.yml: {error}"));
        let root = documents.first().expect("one document");
        let services = root
            .as_mapping_get("services")
            .and_then(Yaml::as_mapping)
            .expect("services");
        let services = services
            .iter()
            .map(|(name, service)| (string(name), Service::read(service)))
            .collect();
        Self { services }
    }
}

impl Service {
    fn read(yaml: &Yaml<'_>) -> Self {
        let get = |key: &str| yaml.as_mapping_get(key);
        let depends_on = get("depends_on").and_then(Yaml::as_mapping);
        Self {
            image: get("image").map(string).unwrap_or_default(),
            build: get("build").map(|build| {
                let part = |key: &str| {
                    string(
                        build
                            .as_mapping_get(key)
                            .unwrap_or_else(|| panic!("build without {key}")),
                    )
                };
                (part("context"), part("dockerfile"))
            }),
            command: strings(get("command")),
            volumes: strings(get("volumes")),
            ports: strings(get("ports")),
            depends_on: depends_on
                .map(|map| map.keys().map(string).collect())
                .unwrap_or_default(),
            healthcheck: strings(get("healthcheck").and_then(|check| check.as_mapping_get("test"))),
        }
    }
}

fn string(yaml: &Yaml<'_>) -> String {
    yaml.as_str()
        .unwrap_or_else(|| panic!("not a string: {yaml:?}"))
        .to_owned()
}

fn strings(yaml: Option<&Yaml<'_>>) -> Vec<String> {
    yaml.and_then(Yaml::as_vec)
        .map(|items| items.iter().map(string).collect())
        .unwrap_or_default()
}

/// Services after those that they wait for.
fn in_order(services: &BTreeMap<String, Service>) -> impl Iterator<Item = (&String, &Service)> {
    let mut order: Vec<_> = services.iter().collect();
    // The demo is two deep: what waits for nothing, and what waits for that.
    order.sort_by_key(|(_, service)| service.depends_on.len());
    order.into_iter()
}

/// The containers' world on this machine: a folder in place of their file systems, free ports in place of theirs.
struct Stage {
    dir: TempDir,
    /// The port of every Redis service: inside its container, and here.
    ports: BTreeMap<String, (String, u16)>,
}

/// A process of the stage, killed when the test ends, however it ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        child::kill_now(&mut self.0);
    }
}

impl Stage {
    fn new(services: &BTreeMap<String, Service>) -> Self {
        let stage = Self {
            dir: support::temp_dir(),
            ports: services.iter().filter_map(container_port).collect(),
        };
        for service in stage.ports.keys() {
            let conf = stage.path(service, "conf");
            std::fs::create_dir_all(&conf).expect("make a folder");
            std::fs::create_dir_all(stage.path(service, "tmp")).expect("make a folder");
            for entry in std::fs::read_dir(support::root().join("redis-conf")).expect("list redis-conf") {
                let file = entry.expect("an entry").file_name();
                let text = support::read(Path::new("redis-conf").join(&file));
                std::fs::write(format!("{conf}/{}", file.display()), stage.localize(&text)).expect("write a copy");
            }
        }
        stage
    }

    fn path(&self, service: &str, folder: &str) -> String {
        format!("{}/{service}/{folder}", self.dir.path().display())
    }

    fn addr(&self, service: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[service].1))
    }

    fn log(&self, service: &str) -> String {
        std::fs::read_to_string(format!("{}/output.txt", self.path(service, "tmp"))).unwrap_or_default()
    }

    /// Replaces `NAME PORT` of every service by where it is here.
    fn localize(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (name, (inside, here))| {
            text.replace(&format!("{name} {inside}"), &format!("127.0.0.1 {here}"))
        })
    }

    /// The service's command line, for this machine. Words are joined by spaces: none of the demo's has one, but for
    /// the script of `sh -c`, which is one line anyway.
    fn start(&self, name: &str, service: &Service) -> Guard {
        let (inside, here) = &self.ports[name];
        let (conf, tmp) = (self.path(name, "conf"), self.path(name, "tmp"));
        let server = redis::server_command().get_program().to_string_lossy().into_owned();
        let script = match service.command.as_slice() {
            [shell, option, script] if shell == "sh" && option == "-c" => script.clone(),
            words => format!("exec {}", words.join(" ")),
        };
        let script = self
            .localize(&script)
            // In this order: the folder that stands for /conf/ lies below this machine's own /tmp/.
            .replace("/tmp/", &format!("{tmp}/"))
            .replace("/conf/", &format!("{conf}/"))
            .replace("exec redis-server ", &format!("exec {server} "))
            .replace(
                &format!("--port {inside}"),
                &format!("--port {here} --bind 127.0.0.1 --dir {tmp}"),
            );
        let output = std::fs::File::create(format!("{tmp}/output.txt")).expect("make a file");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("share a file")).stderr(output);
        Guard(redis::spawn(&mut command))
    }

    fn healthcheck(&self, name: &str, service: &Service) -> String {
        let (inside, here) = &self.ports[name];
        let words: Vec<_> = service
            .healthcheck
            .iter()
            .map(|word| word.replace(inside.as_str(), &here.to_string()))
            .collect();
        let ["CMD", program, args @ ..] = &words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
            panic!("{name}: not a CMD healthcheck: {words:?}");
        };
        child::run(Command::new(program).args(args), Duration::from_secs(5)).stdout
    }
}

/// A Redis service with the word behind its `--port`, and a free port.
fn container_port((name, service): (&String, &Service)) -> Option<(String, (String, u16))> {
    service.build.is_none().then(|| {
        let line = service.command.join(" ");
        let port = line.split("--port ").nth(1).and_then(|rest| rest.split(' ').next());
        (
            name.clone(),
            (
                port.unwrap_or_else(|| panic!("{name}: no --port")).to_owned(),
                support::free_port(),
            ),
        )
    })
}
