//! A request for workers: the words of `sbatch`, and the script that it is given.

use super::time::TimeLimit;
use std::path::PathBuf;
use std::time::Duration;

/// How long before the end of its time a worker is told to leave.
const NOTICE: Duration = Duration::from_secs(120);

/// Everything that `sbatch` is told about an array of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub job_name: String,
    pub comment: String,
    pub workers: usize,
    pub cpus: usize,
    pub gpus: usize,
    pub memory_mib: u64,
    pub time: Option<TimeLimit>,
    pub partition: Option<String>,
    pub account: Option<String>,
    /// The folder for what the workers print.
    pub output: PathBuf,
    /// Further words for `sbatch`, which outrank those before them.
    pub flags: Vec<String>,
    /// True if the memory outranks what the flags say of it.
    pub insist_on_memory: bool,
    /// Lines of shell before the worker starts.
    pub setup: Vec<String>,
    /// The worker's command, word by word.
    pub command: Vec<String>,
}

impl Request {
    /// The arguments of `sbatch`.
    pub fn arguments(&self) -> Vec<String> {
        // A percent sign in a path would be taken for one of Slurm's own fields.
        let output = self.output.display().to_string().replace('%', "%%");
        let memory = format!("--mem={}M", self.memory_mib);
        let mut words = vec![
            format!("--job-name={}", self.job_name),
            format!("--comment={}", self.comment),
            format!("--array=0-{}", self.workers.max(1) - 1),
            "--nodes=1".into(),
            "--ntasks=1".into(),
            format!("--cpus-per-task={}", self.cpus),
            memory.clone(),
            "--requeue".into(),
            "--open-mode=append".into(),
            format!("--signal=B:USR1@{}", self.notice().as_secs()),
            format!("--output={output}/%A_%a.out"),
        ];
        let optional = [
            (self.gpus > 0).then(|| format!("--gpus-per-node={}", self.gpus)),
            self.time.map(|time| format!("--time={time}")),
            self.partition
                .as_ref()
                .map(|name| format!("--partition={name}")),
            self.account
                .as_ref()
                .map(|name| format!("--account={name}")),
        ];
        words.extend(optional.into_iter().flatten());
        words.extend(self.flags.iter().cloned());
        words.extend(self.insist_on_memory.then_some(memory));
        words
    }

    /// The time before its end at which a worker is signalled: less where there is little in all.
    fn notice(&self) -> Duration {
        let least = self.time.map_or(NOTICE, |time| time.0 / 4);
        least.min(NOTICE)
    }

    /// The batch script. `exec` puts the worker into the shell's place, so that signals for the
    /// script reach it.
    pub fn script(&self) -> String {
        let words: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        let setup: String = self.setup.iter().map(|line| format!("{line}\n")).collect();
        format!("#!/bin/bash\n{setup}exec {}\n", words.join(" "))
    }
}

/// A word as a shell reads it back.
pub(super) fn quoted(word: &str) -> String {
    // Only a NUL byte cannot be quoted, and no argument contains one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), |quoted| quoted.into_owned())
}

/// The value of an option among words for `sbatch`: the last one counts.
pub(super) fn flag_value<'a>(flags: &'a [String], long: &str, short: &str) -> Option<&'a str> {
    let mut found = None;
    let mut words = flags.iter();
    while let Some(word) = words.next() {
        if word == long || word == short {
            found = words.next().map(String::as_str);
        } else if let Some(value) = word
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='))
        {
            found = Some(value);
        } else if let Some(value) = word.strip_prefix(short)
            && !short.is_empty()
            && !word.starts_with("--")
        {
            found = Some(value);
        }
    }
    found
}

/// An amount of memory as `sbatch --mem` takes it, in MiB.
pub(super) fn memory_mib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    Some(match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "M" | "MB" => number,
        "K" | "KB" => number.div_ceil(1 << 10),
        "G" | "GB" => number << 10,
        "T" | "TB" => number << 20,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            job_name: "touchstone-tldr".into(),
            comment: "touchstone:0123456789abcdef:01234567:89abcdef".into(),
            workers: 8,
            cpus: 8,
            gpus: 0,
            memory_mib: 4096,
            time: "4:00:00".parse().ok(),
            partition: None,
            account: None,
            output: "/shared/runs/workers".into(),
            flags: vec![],
            insist_on_memory: false,
            setup: vec![],
            command: [
                "/opt/touchstone",
                "work",
                "0123",
                "--store",
                "/shared/my runs",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    #[test]
    fn the_words_of_sbatch() {
        insta::assert_snapshot!(request().arguments().join("\n"), @"
        --job-name=touchstone-tldr
        --comment=touchstone:0123456789abcdef:01234567:89abcdef
        --array=0-7
        --nodes=1
        --ntasks=1
        --cpus-per-task=8
        --mem=4096M
        --requeue
        --open-mode=append
        --signal=B:USR1@120
        --output=/shared/runs/workers/%A_%a.out
        --time=04:00:00
        ");
    }

    #[test]
    fn the_words_of_sbatch_with_everything() {
        let all = Request {
            gpus: 2,
            time: "2".parse().ok(),
            partition: Some("gpu".into()),
            account: Some("abc".into()),
            output: "/shared/100%/workers".into(),
            flags: vec!["--qos=long".into(), "--mem=1G".into()],
            insist_on_memory: true,
            ..request()
        };
        insta::assert_snapshot!(all.arguments().join("\n"), @"
        --job-name=touchstone-tldr
        --comment=touchstone:0123456789abcdef:01234567:89abcdef
        --array=0-7
        --nodes=1
        --ntasks=1
        --cpus-per-task=8
        --mem=4096M
        --requeue
        --open-mode=append
        --signal=B:USR1@30
        --output=/shared/100%%/workers/%A_%a.out
        --gpus-per-node=2
        --time=00:02:00
        --partition=gpu
        --account=abc
        --qos=long
        --mem=1G
        --mem=4096M
        ");
    }

    #[test]
    fn the_script() {
        let script = Request {
            setup: vec!["module load cuda/12.4".into(), "ulimit -c 0".into()],
            ..request()
        };
        insta::assert_snapshot!(script.script(), @"
        #!/bin/bash
        module load cuda/12.4
        ulimit -c 0
        exec /opt/touchstone work 0123 --store '/shared/my runs'
        ");
    }

    #[test]
    fn the_last_of_a_users_options_counts() {
        let flags: Vec<String> = ["--partition=a", "-p", "b", "--mem", "5G", "-pc"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(flag_value(&flags, "--partition", "-p"), Some("c"));
        assert_eq!(flag_value(&flags[..3], "--partition", "-p"), Some("b"));
        assert_eq!(flag_value(&flags, "--mem", ""), Some("5G"));
        assert_eq!(flag_value(&flags, "--account", "-A"), None);
        let mib = ["5G", "300", "2048K", "1T", "all"].map(memory_mib);
        assert_eq!(mib, [Some(5120), Some(300), Some(2), Some(1 << 20), None]);
    }
}
