//! `touchstone conformance`: compares a device's results with reference values.

use super::{FAILURE, SUCCESS, device_spec, print};
use crate::conformance::{self, Finding};
use crate::device::{self, DeviceSpec};
use crate::{Context, Result};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

#[derive(Clone, Debug, Args)]
pub struct ConformanceArgs {
    /// Device to examine: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = device_spec, env = "TOUCHSTONE_DEVICE")]
    pub device: DeviceSpec,
    /// The same as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints every comparison; returns the exit code, which is failure if a difference exceeds
/// rounding in the type in which the device multiplies.
pub fn run(args: &ConformanceArgs) -> Result<u8> {
    let findings = conformance::run(args.device)?;
    let disagreements = findings.iter().filter(|finding| !finding.agrees).count();
    if args.json {
        let text = serde_json::to_string_pretty(&findings)
            .context(|| "cannot encode the findings".to_owned())?;
        print(&(text + "\n"))?;
    } else {
        let judged = findings
            .iter()
            .filter(|finding| finding.tolerance.is_some())
            .count();
        let mut summary = match disagreements {
            0 => format!("`{}` agrees in all {judged} comparisons", args.device),
            _ => format!(
                "`{}` disagrees in {disagreements} of {judged} comparisons",
                args.device
            ),
        };
        if args.device.multiplies_in_tf32() {
            summary += "\nthe tolerances are those of TF32, in which this device multiplies f32";
        }
        print(&format!("{}\n\n{summary}\n", table(&findings)))?;
    }
    Ok(if disagreements == 0 { SUCCESS } else { FAILURE })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "model",
        "against",
        "quantity",
        "absolute",
        "relative",
        "tolerance",
        "",
        "largest in",
    ]);
    for Finding {
        problem,
        against,
        quantity,
        difference,
        tolerance,
        agrees,
    } in findings
    {
        let verdict = match (tolerance, agrees) {
            (None, _) => "not judged",
            (Some(_), true) => "ok",
            (Some(_), false) => "DIFFERS",
        };
        table.add_row([
            (*problem).to_owned(),
            (*against).to_owned(),
            quantity.name().to_owned(),
            number(difference.absolute),
            number(difference.relative),
            tolerance.map_or_else(|| "–".into(), number),
            verdict.to_owned(),
            difference.tensor.clone(),
        ]);
    }
    table
        .column_iter_mut()
        .skip(3)
        .take(3)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn number(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else {
        format!("{value:.1e}")
    }
}
