//! `touchstone claims`: lists a study's claims and the chance that each look decides them.

use super::print;
use crate::experiment::{Claim, Experiment, Metric, Role, Selection, Versus};
use crate::stats::{Design, Direction, Hypothesis, chances_if_normal};
use crate::{Context, Result};
use clap::Args;
use comfy_table::{Table, presets};

#[derive(Clone, Debug, Args)]
pub struct ClaimsArgs {
    /// Name of an experiment, or path of its file
    pub experiment: String,
    /// Profile whose methods and sizes are meant
    #[arg(long, value_name = "NAME", default_value = "standard")]
    pub profile: String,
}

/// True differences, in margins, at which chances are stated.
const TRUTHS: [f64; 3] = [0.0, 1.0, 2.0];

pub fn run(args: &ClaimsArgs) -> Result<()> {
    let selection = Selection {
        profile: args.profile.clone(),
        ..Selection::default()
    };
    let study = Experiment::load(&args.experiment)?.resolve(&selection)?;
    let design = &study.design;
    let mut text = match &study.registration {
        Some(registration) => format!(
            "{}: {}\nhash {}\nregistered {}, for seeds {} to {}\n",
            registration.file,
            if registration.frozen {
                "frozen"
            } else {
                "a draft: its hash is not recorded in the experiment"
            },
            registration.blake3,
            registration.registered,
            registration.seeds.first,
            registration.seeds.last
        ),
        None => "no claim file: none of the claims is primary\n".into(),
    };
    text += &format!(
        "{} primary comparisons share alpha {} over looks at {} seeds\n",
        design.comparisons,
        design.alpha,
        design
            .looks
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    );
    for claim in study
        .claims
        .iter()
        .filter(|claim| claim.role == Role::Primary)
    {
        text += &format!("\n{}: {}\n", claim.id, claim.text);
        text += &format!("  {}", compared(claim)?);
        if let Some(reason) = claim.margin_reason.as_ref().filter(|_| claim.margin > 0.0) {
            text += &format!("; margin {} ({reason})", claim.margin);
        }
        text.push('\n');
        text += &chances(claim, design)?;
    }
    let others = study
        .claims
        .iter()
        .filter(|claim| claim.role == Role::Exploratory)
        .count();
    text += &format!("\nexploratory claims: {others}\n");
    print(&text)
}

/// The comparison, written with mathematical signs.
fn compared(claim: &Claim) -> Result<String> {
    let versus = match &claim.versus {
        Versus::Method(id) => id.clone(),
        Versus::Heuristic(heuristic) => heuristic.name().to_owned(),
    };
    let sign = match claim.direction {
        Direction::Greater => ">",
        Direction::Less => "<",
        Direction::Equivalent => "=",
        Direction::NotWorse => "not worse than",
    };
    let metrics = claim
        .metrics
        .iter()
        .map(name)
        .collect::<Result<Vec<_>>>()?
        .join(", ");
    Ok(format!(
        "{} {sign} {versus} on {metrics} at {}",
        claim.method,
        claim.sizes.join(", ")
    ))
}

fn name(metric: &Metric) -> Result<String> {
    let value = serde_json::to_value(metric).context(|| "a metric without a name".into())?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// The table of chances, for each metric whose standard deviation the claim states.
fn chances(claim: &Claim, design: &Design) -> Result<String> {
    let margin = Some(claim.margin).filter(|margin| *margin > 0.0);
    let hypothesis = Hypothesis {
        direction: claim.direction,
        threshold: claim.threshold,
        margin,
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let looks = design.looks.iter().map(|look| format!("{look} seeds"));
    table.set_header(
        [
            "  chance to be decided".to_owned(),
            "true difference".to_owned(),
        ]
        .into_iter()
        .chain(looks),
    );
    let unit = margin.unwrap_or(0.0);
    for (metric, sd) in &claim.sd {
        for truth in TRUTHS.map(|margins| margins * unit) {
            let decided =
                chances_if_normal(&hypothesis, claim.threshold + truth, *sd, design)?.decided;
            let first = format!("  {}, SD {sd}", name(metric)?);
            let cells = decided.iter().map(|chance| format!("{chance:.2}"));
            table.add_row(
                [first, format!("{:+.3}", claim.threshold + truth)]
                    .into_iter()
                    .chain(cells),
            );
            if unit == 0.0 {
                break;
            }
        }
    }
    if claim.sd.is_empty() {
        return Ok("  no spread is stated, so no chance can be given\n".into());
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    Ok(lines.join("\n") + "\n")
}
