//! The filter `tojson` of chat templates: JSON in the format of Python's `json.dumps`, on which
//! models were trained.

use crate::python::json::{Options, dumps};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// `value | tojson`, with the options `ensure_ascii`, `indent`, `separators` and `sort_keys`; HTML
/// is not escaped.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let (item, key) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson takes two separators",
            ));
        }
    };
    let ascii = options
        .get::<Option<bool>>("ensure_ascii")?
        .unwrap_or(false);
    let sorts = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "tojson is given what is not defined",
        ));
    }
    let value = match sorts {
        true => &sorted(value),
        false => value,
    };
    let spelled = Options {
        item,
        key,
        ascii,
        indent,
    };
    dumps(value, &spelled)
        .map_err(|cause| Error::new(ErrorKind::BadSerialization, cause.to_string()))
}

/// `value` with the keys of every table in order.
fn sorted(value: &Value) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = items().collect();
            keys.sort();
            let pair = |key: Value| {
                let held = value.get_item(&key).unwrap_or_default();
                (key, sorted(&held))
            };
            keys.into_iter().map(pair).collect()
        }
        ValueKind::Seq | ValueKind::Iterable => items().map(|item| sorted(&item)).collect(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    fn rendered(expression: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        environment
            .render_str(&format!("{{{{ {expression} }}}}"), ())
            .unwrap()
    }

    #[test]
    fn json_is_spelled_as_python_spells_it() {
        let value = r#"{"b": [1, none, true, 2.5], "a": "<é>'\"\n"}"#;
        assert_eq!(
            rendered(&format!("{value} | tojson")),
            r#"{"b": [1, null, true, 2.5], "a": "<é>'\"\n"}"#
        );
        assert_eq!(
            rendered("['é😀'] | tojson(ensure_ascii=true)"),
            r#"["\u00e9\ud83d\ude00"]"#
        );
        assert_eq!(
            rendered("[[], {}] | tojson(separators=[',', ':'])"),
            "[[],{}]"
        );
        assert_eq!(
            rendered("{'b': [{'d': 1e-7, 'c': 1e16}], 'a': 0.1} | tojson(sort_keys=true)"),
            r#"{"a": 0.1, "b": [{"c": 1e+16, "d": 1e-07}]}"#
        );
    }

    #[test]
    fn an_indent_breaks_lines_but_in_what_is_empty() {
        assert_eq!(
            rendered("{'a': [1, [], {}]} | tojson(indent=2)"),
            "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ]\n}"
        );
    }
}
