//! What may be wrong when it is not the job's fault, and what helps.

use crate::time::Timestamp;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plan's window is used up: hours, a day, a week, a month.
    Usage,
    /// Too many requests in a short time.
    Rate,
    /// The provider has no room for anybody, or is broken itself.
    Overload,
    /// No credit, or a cap on spending that the account's owner set.
    Billing,
    /// No login, a wrong key, a right that is missing.
    Auth,
    /// The conversation no longer fits the model.
    Context,
    /// The session to be resumed is not there.
    Session,
    /// The provider refuses the request as it stands (status 400): a session that is broken.
    Request,
    /// The model does not exist, or not for this account.
    Model,
    /// The provider cannot be reached.
    Network,
    /// The agent was not allowed to do what it needed.
    Permission,
    /// A cap that the agent's own command sets: turns, money.
    Budget,
    /// The agent's configuration.
    Config,
    /// The agent's own database, just after its start.
    Machine,
    /// Ended by whoever had started it.
    Aborted,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Time: `provider_limit`, also for the command's other jobs.
    Wait,
    /// A person who logs in or pays: `provider_login`, and all jobs of the command are held.
    Login,
    /// A person, for this job alone: what the command or the repository names is wrong, and others
    /// may name something else.
    Person,
    /// A session without this one's past. With a fresh session already: an agent error.
    FreshSession,
    /// Another start, soon: `start_failed`.
    StartAgain,
    /// Nothing that is known: an agent error, with its words shown.
    Nothing,
}

/// What to do with the session that the run had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAdvice {
    /// It is sound and can be resumed.
    Keep,
    /// It must not be resumed again.
    Drop,
}

/// Where the trouble was read: what the verdict may rest on it depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An error event: with a failing exit it goes before new work.
    Event,
    /// The run's last words: they count only where there is no new work.
    Prose,
    /// The agent's own log, while it said nothing itself.
    ProviderLog,
}

/// What kept a run from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub kind: Kind,
    /// What helps: [`Kind::remedy`], but where the words say otherwise.
    pub remedy: Remedy,
    /// Where it was read.
    pub source: Source,
    /// When it should be over, if that was said. Between a minute and eight days from now.
    pub until: Option<Timestamp>,
    /// One line as a person should read it. Foreign text: filter it before a terminal sees it.
    pub words: String,
}

impl Trouble {
    /// What to do with the session that the run had.
    pub fn session(&self) -> SessionAdvice {
        self.kind.session()
    }
}

impl Kind {
    /// What helps.
    pub fn remedy(self) -> Remedy {
        match self {
            Kind::Usage | Kind::Rate | Kind::Overload | Kind::Network => Remedy::Wait,
            Kind::Billing | Kind::Auth => Remedy::Login,
            Kind::Context | Kind::Session | Kind::Request => Remedy::FreshSession,
            Kind::Model | Kind::Config => Remedy::Person,
            Kind::Machine => Remedy::StartAgain,
            Kind::Permission | Kind::Budget | Kind::Aborted => Remedy::Nothing,
        }
    }

    /// Whether a session that saw it can be resumed.
    pub fn session(self) -> SessionAdvice {
        match self {
            Kind::Context | Kind::Session | Kind::Request => SessionAdvice::Drop,
            Kind::Usage
            | Kind::Rate
            | Kind::Overload
            | Kind::Billing
            | Kind::Auth
            | Kind::Model
            | Kind::Network
            | Kind::Permission
            | Kind::Budget
            | Kind::Config
            | Kind::Machine
            | Kind::Aborted => SessionAdvice::Keep,
        }
    }
}
