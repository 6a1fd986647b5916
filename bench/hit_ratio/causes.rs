//! Why the default policy is behind another one on some traces: what the requests are like. Distances are how many
//! different keys are asked for between two requests of one key, in per cent of all keys.

/// The cause for a trace, where it was looked into.
pub(crate) fn of(trace: &str) -> Option<&'static str> {
    Some(match trace {
        "zipf-0.9" | "zipf-1.0" => {
            "each request is drawn anew, so how often a key was asked for is all there is to know, and when it was asked \
             for last, which counts in the default, says nothing"
        }
        "zipf-1.0-scan" => {
            "keys of scans are asked for once; who admits by a small queue drops them there, the default has them stand \
             among the others until a sample finds them"
        }
        "zipf-1.0-drift" => {
            "which keys are hot changes all the time: what the sketch remembers of a name is of the time before it changed"
        }
        "arc-P3" => {
            "half of the repeats come after more than 27 % of all keys, only 3 in 100 within 5 %: what a cache of this size \
             gains is what it keeps out"
        }
        "gli" => {
            "a loop: 98 of 100 repeats come after 35 to 72 % of all keys, so everything is gone when it is wanted, but for \
             who keeps an arbitrary part and lets nothing new in"
        }
        "mooncake-conversation" => {
            "three quarters of the keys are asked for once, most others twice and soon: what was asked for last is all there \
             is to know"
        }
        "orm-busy" => {
            "two thirds of the repeats come within 1 % of the keys, half of them within 0.15 %: what was asked for last is \
             asked for again at once, and a sample now and then takes it for cold"
        }
        "sprite" => {
            "17 of 100 repeats come within 1 % of the keys (70 of them) and 97 within 20 %: in the small cache only who \
             guards a few frequent keys gains, in the large one only what was asked for last counts"
        }
        _ => return None,
    })
}
