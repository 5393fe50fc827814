//! Which fields of another program's log make a request: the time, the domain and the descriptors, each as a text with
//! fields in braces. Read from YAML, for `tollgate replay`. It knows no log.

#[cfg(test)]
mod tests;

use super::{
    Problems, Source,
    fields::{Fields, MapSchema},
    node::{Node, NodeValue},
    pen::NodeReader,
    problem::ProblemCollector,
    yaml,
};

const FILE: MapSchema =
    MapSchema { what: "a file of fields", keys: &["format", "time", "domain", "hits", "answer", "descriptors"] };

/// What a request is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFields {
    /// The format of a log of text, as Envoy has it: `[%START_TIME%] %RESPONSE_CODE%`.
    pub format: Option<String>,
    pub time: Template,
    pub domain: Template,
    /// What the request costs; 1 where there is none.
    pub hits: Option<Template>,
    /// What was answered: `429` and `OVER_LIMIT` are refusals.
    pub answer: Option<Template>,
    /// Keys, and the values' templates, in order.
    pub descriptors: Vec<Vec<(String, Template)>>,
}

/// Text with fields in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Text(String),
    /// The value of the field with this name.
    Field(String),
}

impl LogFields {
    /// Reads a file. `None` if it has errors.
    pub fn read(source: &Source) -> (Option<LogFields>, Problems) {
        let mut report = ProblemCollector::default();
        let fields = NodeReader { report: &mut report, path: &source.path }.log_fields(&source.bytes);
        let problems = report.finish(std::iter::once(source.text()));
        (fields.filter(|_| !problems.has_errors()), problems)
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let entries = self.descriptors.iter().flatten().map(|(_, value)| value);
        let all = [&self.time, &self.domain].into_iter().chain(&self.hits).chain(&self.answer).chain(entries);
        all.flat_map(|template| &template.0).filter_map(|part| match part {
            TemplatePart::Field(name) => Some(&**name),
            TemplatePart::Text(_) => None,
        })
    }
}

impl Template {
    /// Reads `{method} {path}`; `{{` and `}}` are braces. The error is for people.
    fn parse(text: &str) -> Result<Template, &'static str> {
        let mut parts = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain += &rest[..at];
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain += brace;
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').filter(|_| brace == "{").ok_or("a brace has no partner")?;
            if name.is_empty() || name.contains('{') {
                return Err("the braces hold no name of a field");
            }
            if !plain.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut plain)));
            }
            parts.push(TemplatePart::Field(name.to_owned()));
            rest = after;
        }
        plain += rest;
        if !plain.is_empty() {
            parts.push(TemplatePart::Text(plain));
        }
        Ok(Template(parts))
    }
}

impl NodeReader<'_> {
    fn log_fields(&mut self, bytes: &[u8]) -> Option<LogFields> {
        let text = self.utf8(bytes)?;
        let root = self.document(yaml::parse(text))?;
        let fields = self.own_fields(&root, &FILE)?;
        let [time, domain] = ["time", "domain"].map(|key| self.needed(&fields, key));
        let descriptors = self.log_descriptors(&fields);
        let mut template = |key| fields.get(key).and_then(|node| self.template(node));
        let (hits, answer) = (template("hits"), template("answer"));
        let format = fields.get("format").and_then(|node| self.text(node)).map(str::to_owned);
        Some(LogFields { format, time: time?, domain: domain?, hits, answer, descriptors: descriptors? })
    }

    fn needed(&mut self, fields: &Fields<'_, '_>, key: &'static str) -> Option<Template> {
        match fields.get(key) {
            Some(node) => self.template(node),
            None => {
                if fields.all_known {
                    self.error(fields.at, format!("a file of fields must have `{key}`")).hint(match key {
                        "time" => "name the field that holds it: `time: \"{start_time}\"`",
                        _ => "that of the rules: `domain: api`",
                    });
                }
                None
            }
        }
    }

    fn template(&mut self, node: &Node<'_>) -> Option<Template> {
        if matches!(node.value, NodeValue::Map(_)) {
            self.error(node.at, "this must be text, not a map").hint("put a text with braces in quotes: \"{path}\"");
            return None;
        }
        match Template::parse(self.text(node)?) {
            Ok(template) => Some(template),
            Err(why) => {
                self.error(node.at, why).hint("write `{path}` for a field, and `{{` for a brace");
                None
            }
        }
    }

    fn log_descriptors(&mut self, fields: &Fields<'_, '_>) -> Option<Vec<Vec<(String, Template)>>> {
        let Some(node) = fields.get("descriptors") else {
            if fields.all_known {
                self.error(fields.at, "a file of fields must have `descriptors`")
                    .hint("a list of maps: `- user: \"{user_id}\"`");
            }
            return None;
        };
        let NodeValue::List(items) = &node.value else {
            self.error(node.at, format!("`descriptors` must be a list, not {}", node.kind()))
                .hint("begin each of them with `- `");
            return None;
        };
        if items.is_empty() {
            self.error(node.at, "`descriptors` is empty");
        }
        items.iter().map(|item| self.log_descriptor(item)).collect()
    }

    fn log_descriptor(&mut self, node: &Node<'_>) -> Option<Vec<(String, Template)>> {
        let NodeValue::Map(entries) = &node.value else {
            self.error(node.at, format!("a descriptor must be a map of keys and values, not {}", node.kind()))
                .hint("write `- user: \"{user_id}\"`");
            return None;
        };
        entries.iter().map(|(key, value)| Some((self.text(key)?.to_owned(), self.template(value)?))).collect()
    }
}
