//! The arguments that `reproduce`, `plan` and `report` share: the study, its devices, and its
//! folders.

use super::bytes::Bytes;
use super::device_spec;
use crate::device::{self, DeviceSpec};
use crate::error::Result;
use crate::experiment::{Experiment, SeedChoice, Selection, Study};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct StudyArgs {
    /// Name of an experiment, or path of its file
    pub experiment: String,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N; several, separated by
    /// commas, share the stages
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_values_t = [device::DEFAULT],
          value_parser = device_spec, env = "TOUCHSTONE_DEVICE")]
    pub device: Vec<DeviceSpec>,
    /// Stages that run at once [default: one per core, or one per GPU]
    #[arg(long, value_name = "N", env = "TOUCHSTONE_JOBS")]
    pub jobs: Option<NonZeroUsize>,
    /// Memory that one stage may fill, as 16GiB [default: what is free, shared by the stages at
    /// once, or the GPU's]. Batches are split until they fit, which changes no result but the last
    /// digits
    #[arg(long, value_name = "SIZE", env = "TOUCHSTONE_MEMORY")]
    pub memory: Option<Bytes>,
    /// Folder of results, shared by all experiments; what it holds is not computed again
    #[arg(
        long,
        value_name = "DIR",
        default_value = "runs",
        env = "TOUCHSTONE_STORE"
    )]
    pub store: PathBuf,
    /// Folder for reports; each experiment has its own inside
    #[arg(
        long,
        value_name = "DIR",
        default_value = "reports",
        env = "TOUCHSTONE_REPORTS"
    )]
    pub out: PathBuf,
}

impl StudyArgs {
    /// Names of the devices that share the stages.
    pub fn devices(&self) -> Vec<String> {
        self.device.iter().map(ToString::to_string).collect()
    }

    /// Number of stages at once: as requested, else one per device, or one per core if there is one
    /// device.
    pub fn stages_at_once(&self) -> usize {
        match (self.jobs, self.device.len()) {
            (Some(jobs), _) => jobs.get(),
            (None, devices) if devices > 1 => devices,
            (None, _) => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Loads the experiment and makes every choice of the run.
    ///
    /// # Errors
    /// A file that is not found or not valid; a choice that the file does not declare.
    pub fn study(&self) -> Result<Study> {
        Experiment::load(&self.experiment)?.resolve(&self.choice.selection())
    }
}

/// The scale of the embedded world.
const DEFAULT_SCALE: &str = "mini";

/// The part of an experiment that a command is about.
#[derive(Clone, Debug, Args)]
pub struct ChoiceArgs {
    /// How much of the experiment to run, as it declares under [profile.<NAME>] [default: standard;
    /// local with --data]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Which models and data, as the experiment declares under [scale.<NAME>]
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SCALE)]
    pub scale: String,
    /// Instead of the profile's: a count (5), a list (1,2,7) or a preset (paper)
    #[arg(long, value_name = "SEEDS")]
    pub seeds: Option<SeedChoice>,
    /// Instead of the profile's model sizes, separated by commas
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    pub sizes: Vec<String>,
    /// Instead of the profile's methods: their ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub methods: Vec<String>,
    /// Instead of the profile's ablations: their ids, separated by commas, or none
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub ablations: Vec<String>,
    /// Override a hyper-parameter of every method; may be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ChoiceArgs {
    /// True if anything was chosen.
    pub fn is_given(&self) -> bool {
        let lists = [&self.sizes, &self.methods, &self.ablations, &self.set];
        let any = lists.into_iter().any(|list| !list.is_empty());
        any || self.profile.is_some() || self.seeds.is_some() || self.scale != DEFAULT_SCALE
    }

    pub fn selection(&self) -> Selection {
        Selection {
            profile: self.profile.clone().unwrap_or_else(|| "standard".into()),
            scale: self.scale.clone(),
            seeds: self.seeds.clone(),
            sizes: self.sizes.clone(),
            methods: self.methods.clone(),
            ablations: self.ablations.clone(),
            set: self.set.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        study: StudyArgs,
    }

    fn parse(words: &[&str]) -> std::result::Result<StudyArgs, clap::Error> {
        Line::try_parse_from(["plan", "tldr"].iter().chain(words)).map(|line| line.study)
    }

    #[test]
    fn without_flags_the_standard_profile_runs_at_mini_scale() {
        let study = parse(&[]).unwrap().study().unwrap();
        assert_eq!(
            (
                study.profile.as_str(),
                study.scale.as_str(),
                study.seeds.len()
            ),
            ("standard", "mini", 5)
        );
    }

    #[test]
    fn flags_win_over_profile_and_method() {
        let line = "--profile smoke --seeds 4,2 --sizes mini-2.8b --methods sft,irl --set ppo.updates=9 --set reward.epochs=5";
        let study = parse(&line.split(' ').collect::<Vec<_>>())
            .unwrap()
            .study()
            .unwrap();
        assert_eq!(study.seeds, [4, 2]);
        assert_eq!(
            study
                .sizes
                .iter()
                .map(|(size, _)| size.as_str())
                .collect::<Vec<_>>(),
            ["mini-2.8b"]
        );
        assert_eq!(
            study
                .methods
                .iter()
                .map(|method| method.id.as_str())
                .collect::<Vec<_>>(),
            ["sft", "irl"]
        );
        assert!(
            study
                .methods
                .iter()
                .all(|method| (method.hyper.ppo.updates, method.hyper.reward.epochs) == (9, 5))
        );
        assert_eq!(
            parse(&["--seeds", "paper"]).unwrap().study().unwrap().seeds,
            [44413, 55513, 66613, 77713]
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_usage_error() {
        for words in [["--seeds", "1,x"], ["--jobs", "0"], ["--seeds", ""]] {
            assert_eq!(parse(&words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }
}
