//! Tables as csv and parquet, both from one frame.

use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, CsvWriter, DataFrame, ParquetWriter, PlSmallStr, SerWriter};

use super::table::{Cell, ColumnKind, Measured, Table};
use crate::error::{Context, Result};

impl Table {
    /// The table as a frame with unrounded numbers. An estimate `x` becomes `x`, `x_se`, `x_low`,
    /// `x_high`, `x_n` and `x_mark`; undefined values are null.
    pub fn frame(&self) -> Result<DataFrame> {
        let mut columns = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            let cells = || self.rows.iter().map(move |row| &row[place]);
            let name = |suffix: &str| PlSmallStr::from_string(format!("{}{suffix}", column.id));
            match column.kind {
                ColumnKind::Text => {
                    columns.push(text(name(""), cells().map(|cell| Some(cell.show()))))
                }
                ColumnKind::Integer => columns.push(whole(name(""), cells().map(integer))),
                ColumnKind::Number => columns.push(number(name(""), cells().map(float))),
                ColumnKind::Estimate => {
                    let parts = || cells().map(measured);
                    columns.push(number(name(""), parts().map(|it| it.point)));
                    columns.push(number(name("_se"), parts().map(|it| it.se)));
                    columns.push(number(
                        name("_low"),
                        parts().map(|it| it.interval.map(|(low, _)| low)),
                    ));
                    columns.push(number(
                        name("_high"),
                        parts().map(|it| it.interval.map(|(_, high)| high)),
                    ));
                    columns.push(whole(
                        name("_n"),
                        parts().map(|it| i64::try_from(it.n).ok()),
                    ));
                    columns.push(text(
                        name("_mark"),
                        parts().map(|it| it.mark.name().map(str::to_owned)),
                    ));
                }
            }
        }
        DataFrame::new(self.rows.len(), columns)
            .context(|| format!("cannot lay out the table `{}`", self.id))
    }
}

fn text(name: PlSmallStr, values: impl Iterator<Item = Option<String>>) -> Column {
    Column::new(name, values.collect::<Vec<_>>())
}

fn whole(name: PlSmallStr, values: impl Iterator<Item = Option<i64>>) -> Column {
    Column::new(name, values.collect::<Vec<_>>())
}

fn number(name: PlSmallStr, values: impl Iterator<Item = Option<f64>>) -> Column {
    Column::new(name, values.collect::<Vec<_>>())
}

fn integer(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Integer(value) => *value,
        _ => None,
    }
}

fn float(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Number { value, .. } | Cell::Probability(value) | Cell::Scientific(value) => {
            value.filter(|value| value.is_finite())
        }
        _ => None,
    }
}

fn measured(cell: &Cell) -> Measured {
    match cell {
        Cell::Estimate(it) => *it,
        _ => Measured::default(),
    }
}

/// Writes `stem.csv` and `stem.parquet` into `folder`.
pub fn save(mut frame: DataFrame, folder: &Path, stem: &str) -> Result<()> {
    let create = |ending: &str| {
        let path = folder.join(format!("{stem}.{ending}"));
        File::create(&path).context(|| format!("cannot create {}", path.display()))
    };
    CsvWriter::new(create("csv")?)
        .finish(&mut frame)
        .context(|| format!("cannot write {stem}.csv"))?;
    ParquetWriter::new(create("parquet")?)
        .finish(&mut frame)
        .context(|| format!("cannot write {stem}.parquet"))?;
    Ok(())
}
