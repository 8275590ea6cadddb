//! Values and methods as Python has them: how `print` writes a list, a table or a number with a
//! fraction, and the methods of strings that the template engine lacks.

use crate::python::text::{float, titled, write_quoted};
use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt::{self, Write};

/// The text of `value` as Python's `str` gives it. Tuples are written as lists.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => repr(value),
        ValueKind::Number => number(value),
        _ => value.to_string(),
    }
}

/// The text of `value` as Python's `repr` gives it.
fn repr(value: &Value) -> String {
    let mut written = String::new();
    // Writing into a string does not fail.
    let _ = write_repr(&mut written, value);
    written
}

fn write_repr(out: &mut String, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Number => out.write_str(&number(value)),
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &key)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default())?;
            }
            out.write_char('}')
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_char('[')?;
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &item)?;
            }
            out.write_char(']')
        }
        _ => write!(out, "{value}"),
    }
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// Calls the method `name` of `value`: those of [`unknown_method_callback`], and more methods of
/// strings.
///
/// # Errors
/// A method that neither has, and arguments that it does not take.
pub(super) fn method(
    state: &State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    let one = || from_args::<(&str,)>(args).map(|(argument,)| argument);
    let parts = |parts: [&str; 3]| Ok(Value::from_iter(parts));
    match name {
        "split" => {
            let (separator, most) = splits(args)?;
            unknown_method_callback(state, value, name, &[separator, most.into()])
        }
        "rsplit" => match splits(args)? {
            (separator, most) if most < 0 => {
                unknown_method_callback(state, value, "split", &[separator, most.into()])
            }
            (separator, most) => {
                let separator = separator.as_str().ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidOperation,
                        "rsplit with a number of splits needs a separator",
                    )
                })?;
                let mut parts: Vec<&str> = text.rsplitn(most as usize + 1, separator).collect();
                parts.reverse();
                Ok(Value::from_iter(parts))
            }
        },
        "partition" => match (text.split_once(one()?), one()?) {
            (Some((before, behind)), separator) => parts([before, separator, behind]),
            (None, _) => parts([text, "", ""]),
        },
        "rpartition" => match (text.rsplit_once(one()?), one()?) {
            (Some((before, behind)), separator) => parts([before, separator, behind]),
            (None, _) => parts(["", "", text]),
        },
        "removeprefix" => Ok(text.strip_prefix(one()?).unwrap_or(text).into()),
        "removesuffix" => Ok(text.strip_suffix(one()?).unwrap_or(text).into()),
        "index" => match text.find(one()?) {
            Some(at) => Ok(text[..at].chars().count().into()),
            None => Err(Error::new(
                ErrorKind::InvalidOperation,
                "index finds no such part",
            )),
        },
        "ljust" | "rjust" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = width.saturating_sub(text.chars().count());
            let fill = fill.unwrap_or(' ').to_string().repeat(missing);
            Ok(match name {
                "ljust" => format!("{text}{fill}"),
                _ => format!("{fill}{text}"),
            }
            .into())
        }
        "title" => {
            from_args::<()>(args)?;
            Ok(titled(text, |before| before.is_alphabetic()).into())
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// The separator of a split, and how many there are at most; −1 stands for all.
fn splits(args: &[Value]) -> Result<(Value, i64), Error> {
    let (separator, most, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        None => named.get::<Option<Value>>("sep")?.unwrap_or_default(),
        Some(separator) => separator,
    };
    let most = match most {
        None => named.get::<Option<i64>>("maxsplit")?,
        most => most,
    };
    named.assert_all_used()?;
    let separator = match separator.is_undefined() {
        true => Value::from(()),
        false => separator,
    };
    Ok((separator, most.unwrap_or(-1)))
}

/// The filter `title`: words begin behind spaces, hyphens and opening brackets.
pub(super) fn title(text: &str) -> String {
    titled(text, |before| {
        !(before.is_whitespace() || "-({[<".contains(before))
    })
}

/// The filter `round`, whose halves go to the even neighbour.
pub(super) fn round(
    value: &Value,
    precision: Option<i32>,
    method: Option<&str>,
    named: Kwargs,
) -> Result<Value, Error> {
    let precision = match precision {
        None => named.get::<Option<i32>>("precision")?.unwrap_or(0),
        Some(precision) => precision,
    };
    let method = match method {
        None => named.get::<Option<&str>>("method")?.unwrap_or("common"),
        Some(method) => method,
    };
    named.assert_all_used()?;
    let number = f64::try_from(value.clone())?;
    let scale = 10f64.powi(precision);
    let rounded = match method {
        "common" if value.is_integer() && precision >= 0 => return Ok(value.clone()),
        // Rust writes a number with so many digits, and Python rounds to them, by its exact value.
        "common" if precision >= 0 => {
            let digits = precision as usize;
            format!("{number:.digits$}").parse().unwrap_or(number)
        }
        "common" => (number / 10f64.powi(-precision)).round_ties_even() * 10f64.powi(-precision),
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "round takes the methods common, ceil and floor",
            ));
        }
    };
    match value.is_integer() && method == "common" {
        true => Ok((rounded as i64).into()),
        false => Ok(rounded.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jinja::environment;

    fn rendered(template: &str) -> String {
        environment().render_str(template, ()).unwrap()
    }

    #[test]
    fn lists_and_tables_are_written_as_python_prints_them() {
        assert_eq!(
            rendered(r#"{{ [1, 'a', none, true, 2.0, "it's", '"', 'é\n'] }} {{ {'k': [1e-5]} }}"#),
            r#"[1, 'a', None, True, 2.0, "it's", '"', 'é\n'] {'k': [1e-05]}"#
        );
        assert_eq!(rendered("{{ 'a b'.split() | string }}"), "['a', 'b']");
    }

    #[test]
    fn strings_have_the_methods_of_python() {
        let told = rendered(
            "{{ 'aXbXc'.split('X', maxsplit=1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a-b-c'.partition('-') }}\
             {{ 'a-b-c'.rpartition('-') }}{{ 'abc'.removeprefix('a').removesuffix('c') }}{{ 'éb'.index('b') }}\
             {{ 'a'.rjust(3) }}|{{ 'a'.ljust(2, '.') }}{{ \"they're c1d\".title() }}{{ \"they're (ab)\" | title }}",
        );
        assert_eq!(
            told,
            "['a', 'bXc']['a,b', 'c']['a', '-', 'b-c']['a-b', '-', 'c']b1  a|a.They'Re C1DThey're (Ab)"
        );
    }

    #[test]
    fn halves_are_rounded_to_the_even_neighbour() {
        assert_eq!(
            rendered(
                "{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 7 | round }} {{ 2.1 | round(method='ceil') }} \
                 {{ 2.9 | round(0, 'floor') }} {{ 1250 | round(-2) }}"
            ),
            "2.0 4.0 2.67 7 3.0 2.0 1200"
        );
    }
}
