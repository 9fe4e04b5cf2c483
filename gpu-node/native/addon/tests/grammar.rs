//! The grammar compiler's errors keep their reason.
#![cfg(not(miri))]

use copal_addon::grammar::{CompileError, Language, Problem, Vocabulary};

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
