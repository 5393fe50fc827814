use super::*;

fn read(text: &str) -> (Option<LogFields>, String) {
    let (fields, problems) = LogFields::read(&Source { path: "fields.yaml".into(), bytes: text.into() });
    (fields, problems.iter().map(|problem| format!("{}: {}\n", problem.line, problem.what)).collect())
}

fn field(name: &str) -> TemplatePart {
    TemplatePart::Field(name.to_owned())
}

fn text(text: &str) -> TemplatePart {
    TemplatePart::Text(text.to_owned())
}

#[test]
fn a_file_of_fields_is_read_in_its_order() {
    let (fields, problems) = read(
        "time: \"{start}\"\ndomain: api\nhits: \"{cost}\"\nanswer: \"{code}\"\ndescriptors:\n\
         - {user: \"{jwt.sub}\", path: \"{method} {path}\"}\n- kind: \"{{all}}\"\n",
    );
    assert_eq!(problems, "");
    let fields = fields.expect("it has no problems");
    assert_eq!(fields.domain, Template(vec![text("api")]));
    let [one, other] = &*fields.descriptors else { panic!("{fields:?}") };
    let path = Template(vec![field("method"), text(" "), field("path")]);
    assert_eq!(*one, [("user".to_owned(), Template(vec![field("jwt.sub")])), ("path".to_owned(), path)]);
    assert_eq!(*other, [("kind".to_owned(), Template(vec![text("{all}")]))]);
    assert_eq!(fields.names().collect::<Vec<_>>(), ["start", "cost", "code", "jwt.sub", "method", "path"]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (file, expected) in [
        ("time: \"{t}\"\n", "1: a file of fields must have `descriptors`\n1: a file of fields must have `domain`\n"),
        ("time: {t}\ndomain: a\ndescriptors: [{u: x}]\n", "1: this must be text, not a map\n"),
        ("time: \"{t\"\ndomain: a\ndescriptors: [{u: x}]\n", "1: a brace has no partner\n"),
        ("time: \"t}\"\ndomain: a\ndescriptors: [{u: x}]\n", "1: a brace has no partner\n"),
        ("time: \"{}\"\ndomain: a\ndescriptors: [{u: x}]\n", "1: the braces hold no name of a field\n"),
        ("time: t\ndomain: a\ndescriptors: []\n", "3: `descriptors` is empty\n"),
        ("time: t\ndomain: a\ndescriptors: {u: x}\n", "3: `descriptors` must be a list, not a map\n"),
        ("time: t\ndomain: a\ndescriptors: [u]\n", "3: a descriptor must be a map of keys and values, not a value\n"),
        ("tim: t\ndomain: a\ndescriptors: [{u: x}]\n", "1: unknown key `tim` in a file of fields\n"),
    ] {
        let (fields, problems) = read(file);
        assert_eq!((fields, &*problems), (None, expected), "{file}");
    }
}
