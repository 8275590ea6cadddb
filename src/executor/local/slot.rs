//! The places of a pool: as many stages run at once as there are slots.

use crate::executor::Resources;

/// A place for one stage at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub device: String,
    /// Bytes of the device's memory that the stage may fill; `None` if the limit is unknown.
    pub memory: Option<u64>,
}

impl Slot {
    /// `jobs` slots, to which `devices` are assigned in turn: with as many jobs as devices, each
    /// device has one stage at a time.
    pub fn in_turn(jobs: usize, devices: &[Self]) -> Vec<Self> {
        devices.iter().cycle().take(jobs.max(1)).cloned().collect()
    }

    /// True if a stage that needs `resources` has the memory that it can use here.
    fn holds(&self, resources: &Resources) -> bool {
        self.memory
            .is_none_or(|limit| resources.memory_bytes.total <= limit as f64)
    }
}

/// The first free slot with the memory that `resources` ask for; if there is none, the first free
/// slot, where the stage makes do with fewer rows at once.
pub(super) fn free_slot<'s, 'a>(
    slots: &'s mut [(&'a Slot, Option<usize>)],
    resources: &Resources,
) -> Option<(&'a Slot, &'s mut Option<usize>)> {
    let free = |(_, (_, held)): &(usize, &(&Slot, Option<usize>))| held.is_none();
    let place = slots
        .iter()
        .enumerate()
        .filter(free)
        .find(|(_, (slot, _))| slot.holds(resources))
        .or_else(|| slots.iter().enumerate().find(free))
        .map(|(place, _)| place)?;
    let (slot, held) = &mut slots[place];
    Some((slot, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::MemoryBytes;

    fn slot(device: &str, memory: Option<u64>) -> Slot {
        Slot {
            device: device.into(),
            memory,
        }
    }

    #[test]
    fn devices_are_assigned_to_slots_in_turn() {
        let devices = [slot("a", Some(1)), slot("b", None)];
        let names = |jobs: usize| -> String {
            let slots = Slot::in_turn(jobs, &devices);
            slots.iter().map(|slot| slot.device.as_str()).collect()
        };
        assert_eq!(
            [names(0), names(1), names(2), names(3)],
            ["a", "a", "ab", "aba"]
        );
        assert_eq!(Slot::in_turn(2, &[]), []);
    }

    #[test]
    fn a_stage_gets_the_first_free_slot_that_has_its_memory() {
        let all = [
            slot("small", Some(10)),
            slot("large", Some(40)),
            slot("unknown", None),
        ];
        let device = |taken: &[usize], total: f64| {
            let mut slots: Vec<_> = all.iter().map(|slot| (slot, None)).collect();
            taken.iter().for_each(|&place| slots[place].1 = Some(0));
            let memory_bytes = MemoryBytes {
                total,
                ..MemoryBytes::default()
            };
            let resources = Resources {
                memory_bytes,
                ..Resources::default()
            };
            free_slot(&mut slots, &resources).map(|(slot, _)| slot.device.clone())
        };
        assert_eq!(device(&[], 10.0).as_deref(), Some("small"));
        assert_eq!(device(&[], 11.0).as_deref(), Some("large"));
        assert_eq!(device(&[1], 11.0).as_deref(), Some("unknown"));
        assert_eq!(
            device(&[1, 2], 11.0).as_deref(),
            Some("small"),
            "it makes do"
        );
        assert_eq!(device(&[0, 1, 2], 0.0), None);
    }
}
