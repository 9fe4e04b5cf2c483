//! The grammar compiler's errors keep their reason, and looking ahead leaves a matcher where it was.
#![cfg(not(miri))]

use copal_addon::grammar::{CompileError, Language, Problem, Vocabulary};

/// The result of the first look that ends in time: on a busy machine one may take too long.
fn looked<T>(mut look: impl FnMut() -> Option<T>) -> T {
    (0..1000).find_map(|_| look()).expect("one look of a thousand")
}

/// A token for every byte, and an end token.
fn vocabulary() -> Vocabulary {
    let tokens = (0..=255u8).map(|byte| vec![byte]).chain([Vec::new()]).collect();
    let special: Vec<bool> = (0..=256).map(|token| token == 256).collect();
    Vocabulary::new(tokens, &special, &[256]).unwrap()
}

fn problem_of(schema: &str) -> Problem {
    match vocabulary().compile(Language::JsonSchema, schema) {
        Err(CompileError::Grammar { problem, .. }) => problem,
        Err(error) => panic!("{schema}: {error}"),
        Ok(_) => panic!("{schema} is compiled"),
    }
}

#[test]
fn errors_of_the_compiler_are_told_apart_with_the_part_they_name() {
    let text = str::to_owned;
    for (schema, problem) in [
        (r#"{"allOf": [true, {"not": {}}]}"#, Problem::UnsupportedKeywords(text("'not'"))),
        (
            r#"{"type": "array", "uniqueItems": true, "contains": {}}"#,
            Problem::UnsupportedKeywords(text("'contains', 'uniqueItems'")),
        ),
        (r#"{"type": "string", "format": "color"}"#, Problem::UnsupportedFormat(text("color"))),
        (r#"{"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 2}]}"#, Problem::UnsupportedOneOf),
        (
            r#"{"$ref": "https://example.com/schema"}"#,
            Problem::ExternalRef(text("https://example.com/schema")),
        ),
        (r##"{"$ref": "#/$defs/none"}"##, Problem::MissingRef(text("#/$defs/none"))),
        (
            r#"{"type": "object", "properties": {"a": false}, "required": ["a"]}"#,
            Problem::Unsatisfiable(text("required property 'a' is unsatisfiable")),
        ),
        (r#"{"type": "text"}"#, Problem::Other),
    ] {
        assert_eq!(problem_of(schema), problem, "{schema}");
    }
}

#[test]
fn an_invalid_regular_expression_is_explained_by_its_own_error() {
    let error = vocabulary().compile(Language::JsonSchema, r#"{"type": "string", "pattern": "("}"#);
    let message = error.err().unwrap().to_string();
    assert!(message.starts_with("in a 'pattern': "), "{message}");
}

#[test]
fn drafts_and_forced_bytes_change_no_mask() {
    let schema = r#"{
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9},
            "kind": {"enum": ["alpha", "alphabet", "beta"]},
            "tags": {"type": "array", "items": {"type": "integer"}}
        },
        "required": ["name", "kind", "tags"],
        "additionalProperties": false,
        "x-guidance": {"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}
    }"#;
    let text = r#"{"name": "it\"s", "kind": "alphabet", "tags": [1, 23, -4]}"#;
    let grammar = vocabulary().compile(Language::JsonSchema, schema).unwrap();
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    let (mut plain, mut ahead) = (grammar.matcher(), grammar.matcher());
    let new_at = |at: usize| &tokens[at.saturating_sub(1)..at];
    let masks: Vec<_> = (0..=tokens.len()).map(|at| plain.advance(new_at(at), &[]).unwrap()).collect();
    let mut forced = 0;
    for at in 0..=tokens.len() {
        ahead.advance(new_at(at), &[]).unwrap();
        let bytes = looked(|| ahead.forced(&[]).unwrap());
        assert!(text.as_bytes()[at..].starts_with(&bytes), "{at}: {}", String::from_utf8_lossy(&bytes));
        forced += usize::from(!bytes.is_empty());
        let drafts = &tokens[at..tokens.len().min(at + 6)];
        let expected = masks[at..=at + drafts.len()].concat();
        let all =
            looked(|| Some(ahead.advance(&[], drafts).unwrap()).filter(|all| all.len() == expected.len()));
        assert_eq!(all, expected, "{at}");
        assert_eq!(ahead.advance(&[], &[0, 1]).unwrap(), masks[at], "a draft that may not come");
    }
    assert!(forced > text.len() / 2, "{forced} places of {} are forced", text.len());
}

#[test]
fn of_a_long_text_that_must_follow_the_beginning_is_returned() {
    let text = format!("\"{}\"", "abcdefghij".repeat(200));
    let grammar = vocabulary().compile(Language::JsonSchema, &format!(r#"{{"const": {text}}}"#)).unwrap();
    let bytes = looked(|| grammar.matcher().forced(&[]).unwrap());
    assert_eq!(bytes, &text.as_bytes()[..512]);
}
