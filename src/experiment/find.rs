//! Search for experiments: by path, as `experiments/<name>.toml` here or in a folder above, or
//! among the copies inside the program, so that an installed binary runs the shipped ones anywhere.

use super::decode::nearest;
use super::registration;
use super::tree::{Node, Span, Value};
use crate::error::{Context, Error, Result};
use std::path::{Path, PathBuf};

/// The experiments inside the program: name and text.
pub const SHIPPED: [(&str, &str); 9] = [
    (
        "chat-controls",
        include_str!("../../experiments/chat-controls.toml"),
    ),
    ("tldr", include_str!("../../experiments/tldr.toml")),
    (
        "tldr-ablations",
        include_str!("../../experiments/tldr-ablations.toml"),
    ),
    (
        "tldr-flawed",
        include_str!("../../experiments/tldr-flawed.toml"),
    ),
    (
        "tldr-tuning",
        include_str!("../../experiments/tldr-tuning.toml"),
    ),
    (
        "ultrachat",
        include_str!("../../experiments/ultrachat.toml"),
    ),
    (
        "ultrachat-ablations",
        include_str!("../../experiments/ultrachat-ablations.toml"),
    ),
    (
        "world-controls",
        include_str!("../../experiments/world-controls.toml"),
    ),
    (
        "world-controls-flawed",
        include_str!("../../experiments/world-controls-flawed.toml"),
    ),
];

/// The claim files inside the program: path from the folder of experiments, and text.
const SHIPPED_CLAIMS: [(&str, &str); 2] = [
    (
        "claims/tldr.toml",
        include_str!("../../experiments/claims/tldr.toml"),
    ),
    (
        "claims/ultrachat.toml",
        include_str!("../../experiments/claims/ultrachat.toml"),
    ),
];

/// Largest number of experiments in a chain of `extends`.
const LONGEST_CHAIN: usize = 8;

/// Largest file that is read, in bytes; real files are far smaller.
const LARGEST: u64 = 16 << 20;

/// Reads `path_or_name`, laid over the experiment that it `extends`, if any. Names are searched
/// from the folder `start`.
pub(super) fn read(path_or_name: &str, start: &Path) -> Result<Node> {
    let text = ExperimentText::find(path_or_name, start)?;
    chain(text, start, LONGEST_CHAIN)
}

/// Reads an experiment's text, which stands in no folder, so that its claim file must be a shipped
/// one.
pub(super) fn parse(name: &str, content: &str) -> Result<Node> {
    let mut node = Node::parse(name, content)?;
    registration::attach(&mut node, |file, place| claim_file(None, file, place))?;
    Ok(node)
}

/// The experiments that [`Experiment::load_from`](super::Experiment::load_from) finds by name from
/// the folder `start`: the files of the nearest `experiments/` folder, and the shipped names that
/// are not among them.
pub fn available(start: &Path) -> Vec<String> {
    let folder = start
        .ancestors()
        .map(|folder| folder.join("experiments"))
        .find(|folder| folder.is_dir());
    let files = folder
        .into_iter()
        .flat_map(std::fs::read_dir)
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    found.sort();
    let names: Vec<_> = found
        .iter()
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
        .collect();
    let shipped = SHIPPED
        .map(|(name, _)| name.to_owned())
        .into_iter()
        .filter(|name| !names.contains(name));
    found
        .iter()
        .map(|path| path.display().to_string())
        .chain(shipped)
        .collect()
}

fn chain(source: ExperimentText, start: &Path, left: usize) -> Result<Node> {
    let mut node = Node::parse(&source.name, &source.content)?;
    registration::attach(&mut node, |file, place| {
        claim_file(source.folder.as_deref(), file, place)
    })?;
    let Some(extends) = node.table_mut().and_then(|table| table.remove("extends")) else {
        return Ok(node);
    };
    let place = &extends.node.place;
    let Value::String(base) = &extends.node.value else {
        return Err(place.error("`extends` must be the name of an experiment, in quotes"));
    };
    if left == 0 {
        return Err(place.error(format!(
            "more than {LONGEST_CHAIN} experiments extend one another"
        )));
    }
    let folder = source
        .folder
        .as_deref()
        .map(|folder| folder.join(format!("{base}.toml")));
    let base = match folder.filter(|sibling| sibling.is_file()) {
        Some(sibling) => ExperimentText::open(&sibling),
        None => ExperimentText::find(base, start),
    };
    let base = base.map_err(|cause| {
        place
            .error("the experiment that this one extends cannot be read")
            .caused_by(cause)
    })?;
    let mut merged = chain(base, start, left - 1)?;
    if node.at("registration").is_some() {
        // Claim files are frozen whole and are never merged.
        merged
            .table_mut()
            .and_then(|table| table.remove("registration"));
    }
    merged.merge(&node);
    merged.place = node.place;
    Ok(merged)
}

/// The tree of the claim file at `file`, relative to an experiment's folder; from the program
/// itself for a shipped experiment.
fn claim_file(folder: Option<&Path>, file: &str, place: &Span) -> Result<Node> {
    let unreadable = |cause: Error| {
        place
            .error("the claim file cannot be read")
            .caused_by(cause)
    };
    let source = match folder {
        Some(folder) => ExperimentText::open(&folder.join(file)).map_err(unreadable)?,
        None => match SHIPPED_CLAIMS.iter().find(|(name, _)| *name == file) {
            Some((name, content)) => ExperimentText {
                name: format!("{name} (shipped)"),
                content: (*content).to_owned(),
                folder: None,
            },
            None => {
                return Err(place.error(format!("no claim file `{file}` comes with touchstone")));
            }
        },
    };
    Node::parse(&source.name, &source.content)
}

/// A text with its name and its folder, which a shipped copy lacks.
struct ExperimentText {
    name: String,
    content: String,
    folder: Option<PathBuf>,
}

impl ExperimentText {
    fn open(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let found = std::fs::metadata(path).context(unreadable)?;
        // A pipe would block until it is written to, and a device has no end.
        if !found.is_file() || found.len() > LARGEST {
            return Err(Error::configuration(format!(
                "{} is not the file of an experiment",
                path.display()
            ))
            .hint("give the path of a TOML file, or the name of a shipped experiment"));
        }
        let content = std::fs::read_to_string(path).context(unreadable)?;
        Ok(Self {
            name: path.display().to_string(),
            content,
            folder: path.parent().map(Path::to_owned),
        })
    }

    fn find(path_or_name: &str, start: &Path) -> Result<Self> {
        if path_or_name.contains(['/', '\\']) || path_or_name.ends_with(".toml") {
            return Self::open(&start.join(path_or_name));
        }
        let file = format!("experiments/{path_or_name}.toml");
        if let Some(path) = start
            .ancestors()
            .map(|folder| folder.join(&file))
            .find(|path| path.is_file())
        {
            // Shown as the user would type it, if it lies below the current folder.
            let name = path
                .strip_prefix(start)
                .unwrap_or(&path)
                .display()
                .to_string();
            return Ok(Self {
                name,
                ..Self::open(&path)?
            });
        }
        match SHIPPED.iter().find(|(name, _)| *name == path_or_name) {
            Some((name, content)) => Ok(Self {
                name: format!("{name}.toml (shipped)"),
                content: (*content).to_owned(),
                folder: None,
            }),
            None => Err(unknown(path_or_name)),
        }
    }
}

fn unknown(name: &str) -> Error {
    let shipped = SHIPPED.map(|(name, _)| name);
    let hint = match nearest(name, shipped) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "shipped: {}; or give the path of a file, such as ./{name}.toml",
            shipped.join(", ")
        ),
    };
    Error::configuration(format!(
        "no experiment is called `{name}`: there is no experiments/{name}.toml here or above"
    ))
    .hint(hint)
}
