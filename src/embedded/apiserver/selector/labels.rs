//! The grammar of label selectors.

use serde_json::Value;

/// One term of a label selector.
#[derive(Debug, Clone)]
pub(super) struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Requirement {
    /// Whether the labels of an object meet the term.
    pub(super) fn matches(&self, labels: &Value) -> bool {
        let value = labels.get(&self.key).and_then(Value::as_str);
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(set) => value.is_some_and(|v| set.iter().any(|s| s == v)),
            Test::NotIn(set) => value.is_none_or(|v| set.iter().all(|s| s != v)),
        }
    }
}

/// The terms of a label selector; the error is the server's.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    Parser::new(text).requirements()
}

/// A scanner over one label selector.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next token without taking it: a word, or a run of operator characters.
    fn peek(&self) -> &'a str {
        let rest = self.rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return "";
        };
        match first {
            ',' | '(' | ')' => &rest[..1],
            '=' | '!' | '<' | '>' => {
                let two = rest.get(..2).unwrap_or_default();
                if matches!(two, "==" | "!=") {
                    two
                } else {
                    &rest[..1]
                }
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || ",()=!<>".contains(c))
                    .unwrap_or(rest.len());
                &rest[..end]
            }
        }
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = &self.rest.trim_start()[token.len()..];
        token
    }

    fn requirements(mut self) -> Result<Vec<Requirement>, String> {
        let mut list = Vec::new();
        if self.peek().is_empty() {
            return Ok(list);
        }
        loop {
            list.push(self.requirement()?);
            match self.take() {
                "" => return Ok(list),
                "," => {
                    let next = self.peek();
                    if !is_word(next) && next != "!" {
                        return Err(format!("found '{next}', expected: identifier after ','"));
                    }
                }
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let first = self.take();
        if first == "!" {
            let key = self.word("identifier")?;
            return Ok(Requirement {
                key,
                test: Test::Absent,
            });
        }
        if !is_word(first) {
            return Err(format!(
                "unable to parse requirement: found '{first}', expected: identifier"
            ));
        }
        let key = first.to_owned();
        let test = match self.peek() {
            "" | "," => Test::Exists,
            "=" | "==" => {
                self.take();
                Test::In(vec![self.value()])
            }
            "!=" => {
                self.take();
                Test::NotIn(vec![self.value()])
            }
            "in" => {
                self.take();
                Test::In(self.set()?)
            }
            "notin" => {
                self.take();
                Test::NotIn(self.set()?)
            }
            other => {
                return Err(format!(
                    "unable to parse requirement: found '{other}', \
                     expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        Ok(Requirement { key, test })
    }

    fn word(&mut self, wanted: &str) -> Result<String, String> {
        match self.take() {
            token if is_word(token) => Ok(token.to_owned()),
            token => Err(format!(
                "unable to parse requirement: found '{token}', expected: {wanted}"
            )),
        }
    }

    fn value(&mut self) -> String {
        if is_word(self.peek()) {
            self.take().to_owned()
        } else {
            String::new()
        }
    }

    fn set(&mut self) -> Result<Vec<String>, String> {
        match self.take() {
            "(" => {}
            token => {
                return Err(format!(
                    "unable to parse requirement: found '{token}' expected: '('"
                ));
            }
        }
        let mut values = vec![self.value()];
        loop {
            match self.take() {
                ")" => return Ok(values),
                "," => values.push(self.value()),
                token => {
                    return Err(format!(
                        "unable to parse requirement: found '{token}', expected: ',' or ')'"
                    ));
                }
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| !",()=!<>".contains(c))
}
