//! The assistant's turns in a rendered conversation, found by the template's own marks or by the
//! text that it writes before and after them.

use super::conversation::Message;
use super::encode::Loss;
use super::template::{ChatTemplate, Rendered};
use crate::{Error, Result};
use std::ops::Range;

/// A turn of the assistant in a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub bytes: Range<usize>,
    pub extent: Extent,
}

/// The way in which the bytes of a turn were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The bytes that the template marks.
    Marked,
    /// Everything that the template writes after the text that asks for the turn.
    Whole,
    /// The beginning of the turn that stays the same when more messages follow.
    Shared,
}

/// The assistant turns of `messages` to train on, in order; `text` is their rendering.
///
/// # Errors
/// A template that writes the beginning of a conversation differently when more follows, or that
/// marks no turn.
pub(super) fn turns(
    template: &ChatTemplate,
    messages: &[Message],
    text: &Rendered,
    loss: Loss,
) -> Result<Vec<Turn>> {
    if template.marks_turns() {
        return marked(template, messages, text, loss);
    }
    let wanted = match loss {
        Loss::EveryTurn => 0,
        Loss::LastTurn => messages.len() - 1,
    };
    let numbered = messages
        .iter()
        .enumerate()
        .skip(wanted)
        .filter(|(_, message)| message.is_assistant());
    numbered
        .map(|(index, _)| between(template, messages, &text.text, index))
        .collect()
}

fn marked(
    template: &ChatTemplate,
    messages: &[Message],
    text: &Rendered,
    loss: Loss,
) -> Result<Vec<Turn>> {
    let before = match loss {
        Loss::EveryTurn => 0,
        Loss::LastTurn => template
            .render_marked(&messages[..messages.len() - 1], false)?
            .generated
            .len(),
    };
    let turns: Vec<Turn> = text
        .generated
        .iter()
        .skip(before)
        .map(|bytes| Turn {
            bytes: bytes.clone(),
            extent: Extent::Marked,
        })
        .collect();
    match turns.is_empty() {
        false => Ok(turns),
        true => Err(Error::model(format!("{} marks no turn of the assistant in this conversation", template.origin()))
            .hint(
                "put {% generation %} … {% endgeneration %} around every turn of the assistant and its end, or nowhere",
            )),
    }
}

/// The turn `messages[index]`: it begins at the end of the text that asks for it, and ends with the
/// text of the messages up to it, or at the point where that text and the whole diverge.
fn between(
    template: &ChatTemplate,
    messages: &[Message],
    text: &str,
    index: usize,
) -> Result<Turn> {
    let asked = template.render_marked(&messages[..index], true)?.text;
    if !text.starts_with(&asked) {
        return Err(not_a_beginning(template));
    }
    if index + 1 == messages.len() {
        return Ok(Turn {
            bytes: asked.len()..text.len(),
            extent: Extent::Whole,
        });
    }
    let closed = template.render_marked(&messages[..=index], false)?.text;
    let common = common_beginning(&closed, text);
    if common < asked.len() {
        return Err(not_a_beginning(template));
    }
    let extent = if common == closed.len() {
        Extent::Whole
    } else {
        Extent::Shared
    };
    Ok(Turn {
        bytes: asked.len()..common,
        extent,
    })
}

/// The error for a template whose text of the first messages is not the beginning of the text of
/// all.
pub(super) fn not_a_beginning(template: &ChatTemplate) -> Error {
    Error::model(format!(
        "{} writes the first messages in another way when more follow, so that the assistant's turns cannot be told from \
         the rest",
        template.origin()
    ))
    .hint(
        "mark the assistant's turns in the template with {% generation %} … {% endgeneration %}; where only old turns are \
         rewritten, train on the last alone",
    )
}

/// The number of bytes in the common beginning of two texts, in whole characters.
fn common_beginning(a: &str, b: &str) -> usize {
    let shared = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    shared.map(|(character, _)| character.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Role, SpecialTokens};
    use super::*;

    const ZEPHYR: &str = "{% for m in messages %}\n{{ '<|' ~ m.role ~ '|>' }}\n{{ m.content ~ eos_token }}\n{% endfor %}\n\
                          {% if add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n";
    const INSTRUCT: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]\
                            {% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' ~ m.role }}\n{% if m.role == 'assistant' %}\n\
                          {% generation %}\n{{ m.content }}<|im_end|>{% endgeneration %}\n\
                          {% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}";

    /// The texts of the turns found in two exchanges.
    fn found(source: &str, loss: Loss) -> Result<Vec<(String, Extent)>> {
        let tokens = SpecialTokens::default()
            .with("bos_token", "<s>")
            .with("eos_token", "</s>");
        let template = ChatTemplate::new("t", source, tokens).unwrap();
        let roles = [Role::User, Role::Assistant, Role::User, Role::Assistant];
        let messages: Vec<_> = roles
            .into_iter()
            .zip(["a", "bé", "c", "d"])
            .map(|(role, text)| Message::new(role, text))
            .collect();
        let rendered = template.render(&messages, false).unwrap();
        let turns = turns(&template, &messages, &rendered, loss)?.into_iter();
        Ok(turns
            .map(|turn| (rendered.text[turn.bytes].to_owned(), turn.extent))
            .collect())
    }

    #[test]
    fn turns_are_found_by_marks_or_by_what_is_written_around_them() {
        for (source, first, last, extent) in [
            (ZEPHYR, "bé</s>\n", "d</s>\n", Extent::Whole),
            (INSTRUCT, "bé</s>", "d</s>", Extent::Whole),
            (CHATML, "bé<|im_end|>", "d<|im_end|>", Extent::Marked),
        ] {
            let (first, last) = ((first.to_owned(), extent), (last.to_owned(), extent));
            assert_eq!(
                found(source, Loss::LastTurn).unwrap(),
                std::slice::from_ref(&last)
            );
            assert_eq!(found(source, Loss::EveryTurn).unwrap(), [first, last]);
        }
    }

    #[test]
    fn a_turn_that_closes_differently_at_the_end_is_known_as_far_as_both_agree() {
        let closing = format!("{INSTRUCT}{{% if not add_generation_prompt %}}!{{% endif %}}");
        let expected = [
            ("bé</s>".to_owned(), Extent::Shared),
            ("d</s>!".to_owned(), Extent::Whole),
        ];
        assert_eq!(found(&closing, Loss::EveryTurn).unwrap(), expected);
    }

    #[test]
    fn templates_that_hide_their_turns_are_refused_by_name() {
        let counting = format!("{{{{ messages | length }}}}{INSTRUCT}");
        let error = found(&counting, Loss::LastTurn).unwrap_err().to_string();
        assert!(
            error.starts_with("t writes the first messages in another way when more follow"),
            "{error}"
        );
        let unmarked =
            "{{ messages | length }}{% if false %}{% generation %}{% endgeneration %}{% endif %}";
        let error = found(unmarked, Loss::EveryTurn).unwrap_err().to_string();
        assert_eq!(
            error,
            "t marks no turn of the assistant in this conversation"
        );
    }
}
