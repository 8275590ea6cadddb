//! Nodes as `sinfo` lists them: whether any can hold a worker.

use super::request::flag_value;

/// The words of `sinfo`: a line for each node in each of its partitions.
pub(super) const ARGUMENTS: [&str; 3] = ["--noheader", "--Node", "--format=%P|%c|%m|%G"];

/// The largest node that a worker may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Largest {
    pub cpus: u64,
    pub memory_mib: u64,
    pub gpus: u64,
}

/// The largest of each among the nodes of the chosen partitions, or of the default one; `None` if
/// the list has no such node.
pub(super) fn largest(listed: &str, partition: Option<&str>, flags: &[String]) -> Option<Largest> {
    let chosen = flag_value(flags, "--partition", "-p").or(partition);
    let chosen: Option<Vec<&str>> = chosen.map(|names| names.split(',').collect());
    let nodes: Vec<(&str, Largest)> = listed
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('|').map(str::trim);
            let name = parts.next()?;
            let size = Largest {
                cpus: number(parts.next()?)?,
                memory_mib: number(parts.next()?)?,
                gpus: gpus(parts.next()?),
            };
            Some((name, size))
        })
        .collect();
    let is_chosen = |name: &str| match &chosen {
        Some(names) => names.contains(&name.trim_end_matches('*')),
        None => name.ends_with('*') || nodes.iter().all(|(name, _)| !name.ends_with('*')),
    };
    nodes
        .iter()
        .filter(|(name, _)| is_chosen(name))
        .map(|(_, size)| *size)
        .reduce(|a, b| Largest {
            cpus: a.cpus.max(b.cpus),
            memory_mib: a.memory_mib.max(b.memory_mib),
            gpus: a.gpus.max(b.gpus),
        })
}

/// A number, which Slurm may end with a plus sign.
fn number(text: &str) -> Option<u64> {
    text.trim_end_matches('+').parse().ok()
}

/// GPUs in a list of generic resources: `gpu:2`, `gpu:a100:4(S:0-1),shard:8`.
fn gpus(text: &str) -> u64 {
    text.split(',')
        .filter(|part| part.starts_with("gpu:"))
        .filter_map(|part| {
            let plain = part.split('(').next()?;
            plain.rsplit(':').next()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
main*|2|2000|gpu:2
main*|4|1000|(null)
big|64|512000+|gpu:a100:4(S:0-1),shard:8
";

    #[test]
    fn the_largest_node_of_the_partition_counts() {
        let size = |cpus, memory_mib, gpus| {
            Some(Largest {
                cpus,
                memory_mib,
                gpus,
            })
        };
        assert_eq!(largest(LISTED, None, &[]), size(4, 2000, 2));
        assert_eq!(largest(LISTED, Some("big"), &[]), size(64, 512_000, 4));
        let flags = ["-p".to_owned(), "big,main".to_owned()];
        assert_eq!(largest(LISTED, Some("main"), &flags), size(64, 512_000, 4));
        assert_eq!(largest(LISTED, Some("none"), &[]), None);
        assert_eq!(largest("sinfo: error\n", None, &[]), None);
    }
}
