use super::*;
use proptest::prelude::*;

const FIELDS: [&str; 5] = [
    "Series",
    "LabelMatchers",
    "LabelValuesByName",
    "GroupBy",
    "GroupBySlice",
];

fn fields() -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    let values = [("namespace", "shop"), ("pod", "a|b")];
    Value::Map(
        [
            ("Series", text("hits_total")),
            ("LabelMatchers", text(r#"namespace="shop",pod=~"a|b""#)),
            ("GroupBy", text("pod")),
            ("GroupBySlice", Value::texts(["pod".to_owned(), "container".to_owned()])),
            (
                "LabelValuesByName",
                Value::Map(values.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect()),
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
    )
}

fn filled(text: &str) -> Result<String, String> {
    let template = Template::parse(text, &FIELDS).map_err(|e| e.to_string())?;
    template.fill(&fields()).map_err(|e| e.to_string())
}

#[test]
fn templates_are_filled_as_go_fills_them() {
    for (text, outcome) in [
        ("", ""),
        ("up < 1 >= 2", "up < 1 >= 2"),
        (
            "sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)",
            r#"sum(rate(hits_total{namespace="shop",pod=~"a|b"}[2m])) by (pod)"#,
        ),
        ("<< .Series >>", "hits_total"),
        ("a <<- .Series ->> b", "ahits_totalb"),
        ("a <<- .Series>> b", "ahits_total b"),
        ("<</* why */>>x<<- /* why */ ->> y", "xy"),
        (r#"<<index .LabelValuesByName "pod">>"#, "a|b"),
        (r#"<<index .LabelValuesByName `gone`>>"#, ""),
        ("<<.LabelValuesByName.pod>>", "a|b"),
        ("<<index .GroupBySlice 1>>", "container"),
        ("<<range .GroupBySlice>>(<<.>>)<<end>>", "(pod)(container)"),
        (
            "<<range $i, $l := .GroupBySlice>><<if $i>>, <<end>><<$l>><<end>>",
            "pod, container",
        ),
        (
            r#"<<range $k, $v := .LabelValuesByName>><<if ne $k "namespace">><<$k>>=~"<<$v>>",<<end>><<end>>"#,
            r#"pod=~"a|b","#,
        ),
        (
            "<<range $v := .LabelValuesByName>><<$v>>;<<$.GroupBy>> <<end>>",
            "shop;pod a|b;pod ",
        ),
        ("<<if eq .GroupBy \"x\" \"pod\">>yes<<else>>no<<end>>", "yes"),
        ("<<if eq .GroupBy \"x\">>1<<else if not .Series>>2<<else>>3<<end>>", "3"),
        ("<<if and .Series (eq (len .GroupBySlice) 2)>>two<<end>>", "two"),
        ("<<or \"\" .GroupBy>><<len .LabelValuesByName>>", "pod2"),
        (
            "<<.GroupBySlice>> <<.LabelValuesByName>> <<true>>",
            "[pod container] map[namespace:shop pod:a|b] true",
        ),
        (
            "<<range index .LabelValuesByName \"x\">><<end>>",
            "range cannot go over a text",
        ),
        ("<<.Series.x>>", "a text has no field .x"),
        ("<<index .GroupBySlice 7>>", "index 7 of a list of 2"),
        ("<<eq .GroupBy 1>>", "a text cannot be compared with a number"),
    ] {
        let got = filled(text).unwrap_or_else(|error| error);
        assert_eq!(got, outcome, "{text}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (text, words) in [
        ("<<.Serie>>", "there is no field .Serie here; did you mean .Series?"),
        ("<<.Series | printf \"%s\">>", "pipelines (`|`)"),
        ("<<printf \"%s\" .Series>>", "the function \"printf\" is not supported"),
        ("<<with .Series>><<end>>", "`with` is not supported"),
        ("<<template \"x\">>", "`template` is not supported"),
        ("<<$x := .Series>>", "declared by range alone"),
        ("<<$x>>", "there is no variable $x"),
        ("<<range $x := .GroupBySlice>><<end>><<$x>>", "there is no variable $x"),
        ("<<range $a, := .GroupBySlice>><<end>>", "range is written"),
        ("<<range .GroupBySlice>>", "<<range>> without <<end>>"),
        ("<<if .Series>>x<<else>>y<<else>>z<<end>>", "a second <<else>>"),
        ("<<if .Series>>", "<<if>> without <<end>>"),
        ("<<end>>", "<<end>> without"),
        ("<<.Series", "<< without >>"),
        ("<<\"x>>", "without an end"),
        ("<</* x", "a comment without an end"),
        ("<<>>", "nothing between"),
        ("<<.Series .GroupBy>>", "two values without a function"),
        ("<<index .LabelValuesByName>>", "index is given 1 values"),
        ("<<(eq 1 1>>", "a parenthesis without an end"),
        ("<<{}>>", "unexpected '{'"),
        ("<<1.5>>", "not a whole number"),
        ("<<.a..b>>", "a name is missing"),
    ] {
        let error = filled(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    let deep = "<<range .GroupBySlice>>".repeat(MAX_DEPTH + 2);
    assert!(filled(&deep).unwrap_err().contains("nested more than"));
    assert!(filled(&"x".repeat(MAX_BYTES + 1)).unwrap_err().contains("more than"));
}

#[test]
fn ranges_within_ranges_end() {
    let wide = Value::Map([("Series".to_owned(), Value::texts(vec!["x".to_owned(); 100]))].into());
    let text = "<<range $.Series>>".repeat(8) + "<<.>>" + &"<<end>>".repeat(8);
    let error = Template::parse(&text, &FIELDS).unwrap().fill(&wide).unwrap_err();
    assert!(error.to_string().contains("grows to more than"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        drop(filled(&text));
    }

    #[test]
    fn no_action_panics(words in prop::collection::vec(
        prop::sample::select(vec![
            "<<", ">>", "<<- ", " ->>", ".", ".Series", ".LabelValuesByName", ".GroupBySlice", "range", "if", "else", "end",
            "$x", "$", ":=", ",", "(", ")", "index", "eq", "len", "and", "0", "-1", "\"a\"", "`", "\"", " ", "/*", "*/", "|", "é",
        ]), 0..24)) {
        drop(filled(&words.concat()));
        drop(filled(&words.join(" ")));
    }

    #[test]
    fn text_without_actions_stays(text in "[^<]{0,40}") {
        prop_assert_eq!(filled(&text), Ok(text));
    }
}
