//! The agent's command: a template, split without a shell, filled word by word.
//!
//! `{name}` stands for a value. Words between a word `[` and a word `]` are left out when a value
//! in them is empty.

/// A command template that parsed.
///
/// ```
/// use kugetsu::agent::Template;
///
/// Template::parse("my-agent --title 'job {job}' [ --session {session} ]")?;
/// assert!(Template::parse("my-agent {what}").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Word(String),
    Optional(Vec<String>),
}

/// What a template is filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Values {
    /// The file with the message, which is also the agent's standard input.
    pub message_file: String,
    /// The agent's session to continue; empty for a new one.
    pub session: String,
    /// The folder to work in.
    pub worktree: String,
    /// The job's number.
    pub job: String,
    /// The attempt's number.
    pub attempt: String,
    /// The issue reference.
    pub issue: String,
    /// The branch to commit to.
    pub branch: String,
}

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        Some(match name {
            "message_file" => &self.message_file,
            "session" => &self.session,
            "worktree" => &self.worktree,
            "job" => &self.job,
            "attempt" => &self.attempt,
            "issue" => &self.issue,
            "branch" => &self.branch,
            _ => return None,
        })
    }
}

const NAMES: &str = "{message_file} {session} {worktree} {job} {attempt} {issue} {branch}";

impl Template {
    /// Splits a template as a shell would split words, and checks its placeholders.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with it: quotes or brackets that are not closed, a
    /// placeholder that there is not, no program.
    pub fn parse(text: &str) -> Result<Template, String> {
        let words = shell_words::split(text).map_err(|error| format!("{error} in {text:?}"))?;
        let mut parts = Vec::new();
        let mut optional: Option<Vec<String>> = None;
        for word in words {
            check_placeholders(&word)?;
            match (word.as_str(), optional.take()) {
                ("[", None) => optional = Some(Vec::new()),
                ("[", Some(_)) => return Err("'[' inside of '[ ]'".into()),
                ("]", Some(words)) => parts.push(Piece::Optional(words)),
                ("]", None) => return Err("']' without '['".into()),
                (_, Some(mut words)) => {
                    words.push(word);
                    optional = Some(words);
                }
                (_, None) => parts.push(Piece::Word(word)),
            }
        }
        if optional.is_some() {
            return Err("'[' without ']'".into());
        }
        match parts.first() {
            Some(Piece::Word(program)) if !program.is_empty() => Ok(Template { parts }),
            _ => Err("the command is empty".into()),
        }
    }

    /// The program as it is written, placeholders and all.
    pub(crate) fn program(&self) -> &str {
        match self.parts.first() {
            Some(Piece::Word(program)) => program,
            Some(Piece::Optional(_)) | None => "",
        }
    }

    /// All words as they are written, placeholders and all.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| match part {
            Piece::Word(word) => std::slice::from_ref(word).iter().map(String::as_str),
            Piece::Optional(words) => words.iter().map(String::as_str),
        })
    }

    /// Whether the agent is told which session to continue.
    pub(crate) fn has_sessions(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Piece::Word(word) => word.contains("{session}"),
            Piece::Optional(words) => words.iter().any(|word| word.contains("{session}")),
        })
    }

    /// Program and arguments.
    pub(crate) fn fill(&self, values: &Values) -> Vec<String> {
        let mut arguments = Vec::new();
        for part in &self.parts {
            match part {
                Piece::Word(word) => arguments.push(fill_word(word, values)),
                Piece::Optional(words) if words.iter().any(|word| misses_a_value(word, values)) => {
                }
                Piece::Optional(words) => {
                    arguments.extend(words.iter().map(|word| fill_word(word, values)));
                }
            }
        }
        arguments
    }
}

/// The pieces of a word: text, and the names of placeholders.
fn pieces(word: &str) -> Vec<(&str, Option<&str>)> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some((text, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        pieces.push((text, Some(name)));
        rest = after;
    }
    pieces.push((rest, None));
    pieces
}

fn check_placeholders(word: &str) -> Result<(), String> {
    let nothing = Values {
        message_file: String::new(),
        session: String::new(),
        worktree: String::new(),
        job: String::new(),
        attempt: String::new(),
        issue: String::new(),
        branch: String::new(),
    };
    match pieces(word).into_iter().filter_map(|(_, name)| name).find(|n| nothing.get(n).is_none()) {
        Some(name) => Err(format!("there is no placeholder {{{name}}} (there are {NAMES})")),
        None => Ok(()),
    }
}

fn fill_word(word: &str, values: &Values) -> String {
    let value = |name: Option<&str>| name.and_then(|name| values.get(name)).unwrap_or_default();
    pieces(word).into_iter().flat_map(|(text, name)| [text, value(name)]).collect()
}

fn misses_a_value(word: &str, values: &Values) -> bool {
    pieces(word).into_iter().any(|(_, name)| name.is_some_and(|n| values.get(n) == Some("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(session: &str) -> Values {
        Values {
            message_file: "/w/.kugetsu/msg.txt".into(),
            session: session.into(),
            worktree: "/w".into(),
            job: "4".into(),
            attempt: "2".into(),
            issue: "h/o/r#1".into(),
            branch: "issue-1".into(),
        }
    }

    #[test]
    fn words_are_filled_and_never_split_again() {
        let table = [
            ("agent {job}:{attempt} x{issue}", "", vec!["agent", "4:2", "xh/o/r#1"]),
            ("'my agent' --in={message_file}", "", vec!["my agent", "--in=/w/.kugetsu/msg.txt"]),
            ("a [ --session {session} ] z", "ses_1 x", vec!["a", "--session", "ses_1 x", "z"]),
            ("a [ --session {session} ] z", "", vec!["a", "z"]),
            ("a {session} z", "", vec!["a", "", "z"]),
            ("a '$HOME' `id` ';'", "", vec!["a", "$HOME", "`id`", ";"]),
            ("a {", "", vec!["a", "{"]),
            ("a {session}", "{job}", vec!["a", "{job}"]),
        ];
        for (text, session, expected) in table {
            let template = Template::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(template.fill(&values(session)), expected, "{text}");
        }
    }

    #[test]
    fn bad_templates_say_what_is_wrong() {
        for (text, why) in [
            ("", "empty"),
            ("  ", "empty"),
            ("[ a ]", "empty"),
            ("a 'b", "quot"),
            ("a {sesion}", "{sesion}"),
            ("a [ b", "'[' without"),
            ("a ] b", "']' without"),
            ("a [ [ b ] ]", "inside"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
