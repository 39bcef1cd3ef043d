//! The lines that a session says, for people.

use std::time::Duration;

use crate::serving::GenerationRecord;
use crate::serving::GenerationState;
use crate::serving::Residue;
use crate::serving::Step;

/// What a swap took, and what stayed.
pub(super) fn swapped(new: &GenerationRecord, built: Option<Duration>, old: Option<&GenerationRecord>) -> String {
    let mut parts = Vec::new();
    if let Some(built) = built {
        parts.push(format!("built in {}", time(built)));
    }
    for (word, steps) in [
        ("checked", &[Step::Copy, Step::Check, Step::Trial][..]),
        ("started", &[Step::Open, Step::Start]),
        ("swapped", &[Step::HandOver, Step::Publish]),
    ] {
        let taken: Duration = new.steps.iter().filter(|(step, _)| steps.contains(step)).map(|(_, time)| *time).sum();
        parts.push(format!("{word} in {}", time(taken)));
    }
    let rest = [weights(new), old.map(fate)];
    let rest: String = rest.into_iter().flatten().map(|part| format!("; {part}")).collect();
    format!("{}{rest}", parts.join(", "))
}

/// As `1.21 s`, `240 ms` or `0.6 ms`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 9.95 {
        format!("{seconds:.0} s")
    } else if seconds >= 0.1 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

/// The model, where there is one: whether it stayed in memory, or had to be loaded.
fn weights(record: &GenerationRecord) -> Option<String> {
    let model = record.model.as_ref()?;
    let size = size(model.footprint.bytes);
    if model.was_resident {
        let but = if model.footprint.was_changed { ", and a handler has written to them" } else { "" };
        return Some(format!("{size} of weights stayed on {}{but}", model.device));
    }
    let loading = record.steps.iter().find(|(step, _)| *step == Step::Model);
    let taken = loading.map_or_else(String::new, |(_, taken)| format!(" in {}", time(*taken)));
    Some(format!("{size} of weights loaded on {}{taken}", model.device))
}

/// What became of the generation before.
fn fate(old: &GenerationRecord) -> String {
    let id = old.id;
    match &old.residue {
        Some(Residue::Gone) => format!("generation {id} is unmapped"),
        Some(Residue::Retained { bytes }) => format!("generation {id} stays mapped, {}", size(*bytes)),
        Some(residue) => format!("of generation {id}, {residue}"),
        None if old.state == GenerationState::Draining => format!("generation {id} finishes what it has in hand"),
        None => format!("generation {id} is {}", old.state.as_str()),
    }
}

/// As `4.8 MB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["kB", "MB", "GB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if size < 999.5 {
            break;
        }
        size /= 1e3;
        unit = next;
    }
    if unit == "bytes" || size >= 99.5 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use handler_sdk::Device;

    use super::*;
    use crate::ids::Digest;
    use crate::ids::GenerationId;
    use crate::model::Footprint;
    use crate::serving::ModelRecord;
    use crate::serving::Trigger;

    fn record(id: u64, state: GenerationState) -> GenerationRecord {
        let millis = Duration::from_millis;
        GenerationRecord {
            id: GenerationId(id),
            trigger: Trigger::Library,
            state,
            began: SystemTime::UNIX_EPOCH,
            published: None,
            package: None,
            code: None,
            model: Some(ModelRecord {
                file: "model.pt".to_owned(),
                digest: Digest([0; 32]),
                device: Device::Cpu,
                footprint: Footprint { tensors: 2, bytes: 4_800_000, address: None, was_changed: false },
                was_resident: true,
            }),
            steps: vec![
                (Step::Copy, millis(2)),
                (Step::Check, millis(3)),
                (Step::Model, millis(900)),
                (Step::Trial, millis(235)),
                (Step::Open, millis(1)),
                (Step::Start, millis(2)),
                (Step::Publish, Duration::from_micros(600)),
            ],
            requests: 0,
            reason: None,
            residue: None,
        }
    }

    #[test]
    fn a_swap_is_told_with_what_it_took_and_what_stayed() {
        let mut new = record(3, GenerationState::Serving);
        let mut old = record(2, GenerationState::Retired);
        old.residue = Some(Residue::Gone);
        let times = "built in 1.21 s, checked in 0.24 s, started in 3.0 ms, swapped in 0.6 ms";
        let built = Some(Duration::from_millis(1210));
        assert_eq!(
            swapped(&new, built, Some(&old)),
            format!("{times}; 4.8 MB of weights stayed on cpu; generation 2 is unmapped")
        );
        new.model.as_mut().unwrap().footprint.was_changed = true;
        assert!(swapped(&new, built, None).ends_with("stayed on cpu, and a handler has written to them"));
        new.model.as_mut().unwrap().was_resident = false;
        let draining = record(2, GenerationState::Draining);
        assert_eq!(
            swapped(&new, built, Some(&draining)),
            format!("{times}; 4.8 MB of weights loaded on cpu in 0.90 s; generation 2 finishes what it has in hand")
        );
        new.model = None;
        old.residue = Some(Residue::InUse { bytes: 7, why: "its thread \"x\" still runs".to_owned() });
        assert_eq!(
            swapped(&new, built, Some(&old)),
            format!("{times}; of generation 2, 7 bytes stay mapped: its thread \"x\" still runs")
        );
    }

    #[test]
    fn times_and_sizes_have_three_digits_at_most() {
        let times =
            [(9_960_000, "10 s"), (1_214_000, "1.21 s"), (240_000, "0.24 s"), (42_400, "42 ms"), (640, "0.6 ms")];
        for (micros, text) in times {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (4_800_000, "4.8 MB"),
            (451_000_000, "451 MB"),
            (2_000_000_000, "2.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
