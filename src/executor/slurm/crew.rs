//! The workers of one plan on one store: finding them, starting them once, ending them.

use super::need::Need;
use super::queue::{self, Task};
use super::request::Request;
use super::{Slurm, tools};
use crate::error::{Error, Result};
use crate::executor::{Interrupt, StoredPlan};
use crate::pipeline::{Holder, Store, Watch};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

/// Time before a controller that did not answer is asked once more.
const SECOND_TRY: Duration = Duration::from_secs(10);
/// Time between two looks for the right to submit.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Ending of the comment of a worker with more memory.
const ROOMY: &str = ":room";

/// The kind of worker to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// With more memory, for what ran out of it.
    Roomy,
}

/// The workers of a plan, which their job's name and comment identify: a number alone may be given
/// to another job after a crash of the controller.
pub(super) struct Crew<'a> {
    pub slurm: &'a Slurm,
    pub store: &'a Store,
    pub plan: &'a StoredPlan,
}

impl Crew<'_> {
    pub fn job_name(&self) -> String {
        job_name(&self.slurm.study)
    }

    /// The beginning of the comments of this plan's workers on this store.
    pub fn comment(&self) -> String {
        let place = blake3::hash(self.store.root().as_os_str().as_encoded_bytes());
        let (plan, place) = (self.plan.id.to_string(), place.to_hex());
        format!("touchstone:{}:{}:", &plan[..16], &place[..8])
    }

    /// The round of a task of this crew.
    pub fn round_of(&self, task: &Task) -> Option<String> {
        let rest = task.comment.strip_prefix(&self.comment())?;
        Some(rest.strip_suffix(ROOMY).unwrap_or(rest).to_owned())
    }

    pub fn kind_of(task: &Task) -> Kind {
        if task.comment.ends_with(ROOMY) {
            Kind::Roomy
        } else {
            Kind::Ordinary
        }
    }

    /// The tasks of this crew, live ones and ended ones that Slurm remembers; or its complaint.
    pub fn list(&self) -> Result<std::result::Result<Vec<Task>, String>> {
        let answer = tools::ask("squeue", &queue::arguments(&self.job_name()), "")?;
        let ours = |text: String| {
            let mut tasks = Task::parse(&text);
            tasks.retain(|task| self.round_of(task).is_some());
            tasks
        };
        Ok(answer.map(ours))
    }

    /// The tasks of this crew, asked twice if need be.
    ///
    /// # Errors
    /// If the controller does not answer.
    pub fn insist(&self) -> Result<Vec<Task>> {
        let complaint = match self.list()? {
            Ok(tasks) => return Ok(tasks),
            Err(complaint) => complaint,
        };
        if tools::is_unreachable(&complaint) {
            std::thread::sleep(SECOND_TRY.min(self.slurm.poll));
            if let Ok(tasks) = self.list()? {
                return Ok(tasks);
            }
        }
        Err(refused("squeue", &complaint))
    }

    /// Does `work` while no other process submits workers of this plan; `None` if interrupted
    /// before.
    pub fn alone<T>(
        &self,
        interrupt: &Interrupt,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let mut watch = Watch::new();
        while !interrupt.is_raised() {
            if let Some(lock) = self.store.try_lock(&self.plan.id)?
                && let Some(claim) = self.store.claim(&lock, &mut watch, Holder::here(None))?
            {
                let done = work();
                claim.settle();
                return done.map(Some);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(None)
    }

    /// A name for a new round.
    pub fn new_round() -> String {
        let random = RandomState::new().hash_one((std::process::id(), SystemTime::now()));
        format!("{:08x}", random >> 32)
    }

    /// The request for `workers` of a kind.
    pub fn request(&self, kind: Kind, workers: usize, need: &Need, round: &str) -> Request {
        let settings = &self.slurm.settings;
        let mut command = vec![
            self.slurm.program.display().to_string(),
            "work".into(),
            self.plan.id.to_string()[..16].to_owned(),
            "--store".into(),
            self.store.root().display().to_string(),
            "--device".into(),
            self.slurm.devices.join(","),
            "--jobs".into(),
            need.jobs.to_string(),
            "--round".into(),
            round.into(),
        ];
        if let Some(bytes) = need.stage_bytes {
            command.extend(["--memory".into(), bytes.to_string()]);
        }
        command.extend((kind == Kind::Roomy).then(|| "--roomy".into()));
        let ending = if kind == Kind::Roomy { ROOMY } else { "" };
        Request {
            job_name: self.job_name(),
            comment: format!("{}{round}{ending}", self.comment()),
            workers,
            cpus: need.cpus,
            gpus: settings.gpus,
            memory_mib: need.memory_mib,
            time: settings.time,
            partition: settings.partition.clone(),
            account: settings.account.clone(),
            output: self.store.workers(),
            flags: settings.flags.clone(),
            insist_on_memory: kind == Kind::Roomy,
            setup: settings.setup.clone(),
            command,
        }
    }

    /// Asks Slurm whether it would take the request, then submits it. Returns the job's number.
    ///
    /// # Errors
    /// With Slurm's own words, if it refuses or does not answer twice.
    pub fn submit(&self, request: &Request) -> Result<String> {
        let (words, script) = (request.arguments(), request.script());
        let mut trial = vec!["--test-only".to_owned()];
        trial.extend(words.iter().cloned());
        let mut tried = tools::ask("sbatch", &trial, &script)?;
        if tried
            .as_ref()
            .is_err_and(|said| tools::is_unreachable(said))
        {
            std::thread::sleep(SECOND_TRY.min(self.slurm.poll));
            tried = tools::ask("sbatch", &trial, &script)?;
        }
        tried.map_err(|complaint| refused("sbatch", &complaint))?;
        let mut submission = vec!["--parsable".to_owned()];
        submission.extend(words);
        let before = self.insist()?;
        let printed = match tools::ask("sbatch", &submission, &script)? {
            // The number comes before the cluster's name.
            Ok(printed) => printed,
            Err(complaint) if tools::is_unreachable(&complaint) => {
                // The controller may have taken it all the same.
                std::thread::sleep(SECOND_TRY.min(self.slurm.poll));
                let new = self.insist()?.into_iter().find(|task| {
                    task.comment == request.comment && !before.contains(task) && task.is_live()
                });
                match new {
                    Some(task) => task.array,
                    None => tools::ask("sbatch", &submission, &script)?
                        .map_err(|complaint| refused("sbatch", &complaint))?,
                }
            }
            Err(complaint) => return Err(refused("sbatch", &complaint)),
        };
        let last = printed.lines().last().unwrap_or_default();
        Ok(last.split(';').next().unwrap_or_default().to_owned())
    }

    /// Ends those of `tasks` that are live; returns how many.
    ///
    /// # Errors
    /// With Slurm's own words, if it refuses.
    pub fn cancel(&self, tasks: &[Task], which: impl Fn(&Task) -> bool) -> Result<usize> {
        let numbers: Vec<String> = tasks
            .iter()
            .filter(|task| task.is_live() && which(task))
            .map(Task::number)
            .collect();
        if numbers.is_empty() {
            return Ok(0);
        }
        // The name keeps a job of someone else safe that has been given a number of ours.
        let mut words = vec![format!("--name={}", self.job_name())];
        words.extend(numbers.iter().cloned());
        tools::ask("scancel", &words, "")?.map_err(|complaint| refused("scancel", &complaint))?;
        Ok(numbers.len())
    }
}

/// The name of the jobs of a study.
pub(super) fn job_name(study: &str) -> String {
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => letter,
        _ => '-',
    };
    format!(
        "touchstone-{}",
        study.chars().map(plain).collect::<String>()
    )
}

/// Slurm's refusal, with what can be done about the usual ones.
fn refused(tool: &str, complaint: &str) -> Error {
    const FEWER: &str = "start fewer workers: --workers";
    const REMEDIES: [(&str, &str); 8] = [
        (
            "account",
            "`sacctmgr show associations user=$USER` lists your accounts; name one with --account after `--`, or in the [cluster] file",
        ),
        (
            "partition",
            "`sinfo` lists the partitions; name one with --partition after `--`, or in the [cluster] file",
        ),
        ("SubmitJobLimit", FEWER),
        ("SubmitLimit", FEWER),
        ("job array", FEWER),
        ("ime limit", "ask for less time: --time"),
        (
            "node configuration",
            "ask for less: --cpus, --gpus, --memory or --jobs; `sinfo -N -l` shows what nodes have",
        ),
        ("QOS", "choose another with --qos after `--`"),
    ];
    let hint = if tools::is_unreachable(complaint) {
        "the controller does not answer: nothing was lost, run the same command again later"
    } else {
        REMEDIES
            .iter()
            .find(|(sign, _)| complaint.contains(sign))
            .map_or(
                "these are Slurm's own words; nothing was submitted",
                |(_, hint)| hint,
            )
    };
    Error::configuration(format!("{tool}: {complaint}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_has_plain_letters_only() {
        assert_eq!(job_name("tldr"), "touchstone-tldr");
        assert_eq!(job_name("my study,2"), "touchstone-my-study-2");
    }
}
