//! The state machine of a worker: every event is handled in `WorkerState::handle`.

use std::collections::BTreeMap;

use crate::job::{Job, JobId, Reason, Report, Token, limits};
use crate::time::Monotonic;
use crate::worker::slot::{Phase, Slot};
use crate::worker::{Action, Ending, Exit, Notice, OnTerminate, Settings, Stop, WorkerEvent};

/// What the worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Working,
    /// Claims nothing more; ends when its slots are empty.
    Ending(Exit),
    /// The same, and everything was told to stop.
    Stopping(Exit),
}

/// Trouble of the machine, until an examination finds it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// To be examined at this time.
    Waiting(Monotonic),
    /// It is being examined.
    Examining,
}

/// What is unfinished in the whole store, as last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfinished {
    jobs: u64,
    /// Those that only a person can let go on.
    stuck: u64,
}

/// The state of a worker.
#[derive(Debug)]
pub(crate) struct WorkerState {
    settings: Settings,
    mode: Mode,
    slots: BTreeMap<JobId, Slot>,
    /// Whether there may be something to claim.
    hopeful: bool,
    claiming: bool,
    recovering: bool,
    recovered_once: bool,
    /// Whether there may be something to recover.
    recover: bool,
    /// Whether something may have happened to its jobs, and whether that is being read.
    peek: bool,
    peeking: bool,
    unfinished: Option<Unfinished>,
    trouble: Option<Trouble>,
    /// How long the next trouble waits for its first examination: longer, if examinations do not
    /// see what executions meet.
    examine_ms: u64,
    next_start_at: Monotonic,
    next_poll_at: Monotonic,
    next_renewal_at: Monotonic,
    due_at: Option<Monotonic>,
}

impl WorkerState {
    /// A worker that has just begun.
    pub fn new(settings: Settings, now: Monotonic) -> WorkerState {
        // It must not spin, whatever the settings say.
        let poll_ms = settings.poll_ms.max(limits::POLL_MS_MIN);
        let lease_ms = settings.lease_ms.max(limits::LEASE_MS_MIN);
        let settings = Settings { poll_ms, lease_ms, ..settings };
        WorkerState {
            mode: Mode::Working,
            slots: BTreeMap::new(),
            hopeful: true,
            claiming: false,
            recovering: false,
            recovered_once: false,
            recover: false,
            peek: false,
            peeking: false,
            unfinished: None,
            trouble: None,
            examine_ms: limits::EXAMINE_MS,
            next_start_at: now,
            next_poll_at: now,
            next_renewal_at: now.plus_ms(settings.lease_ms / 3),
            due_at: None,
            settings,
        }
    }

    /// A worker for one job that was claimed for it.
    pub fn for_one(
        settings: Settings,
        job: Box<Job>,
        now: Monotonic,
    ) -> (WorkerState, Vec<Action>) {
        let mut state = WorkerState::new(Settings { cap: 0, ..settings }, now);
        state.mode = Mode::Ending(Exit::Idle);
        state.recovered_once = true;
        let actions = state.begin(job, now);
        (state, actions)
    }

    /// When it wants to hear of the time again, at the latest.
    pub fn next_deadline(&self) -> Monotonic {
        let retry = self.slots.values().filter_map(|slot| match slot.phase {
            Phase::Finishing { retry_at, .. } => retry_at,
            Phase::Executing => None,
        });
        let start = (self.may_claim() && self.hopeful).then_some(self.next_start_at);
        let renewal = (!self.slots.is_empty()).then_some(self.next_renewal_at);
        let examination = match self.trouble {
            Some(Trouble::Waiting(at)) => Some(at),
            Some(Trouble::Examining) | None => None,
        };
        [Some(self.next_poll_at), start, renewal, self.due_at, examination]
            .into_iter()
            .flatten()
            .chain(retry)
            .min()
            .unwrap_or(self.next_poll_at)
    }

    /// What to do about what happened.
    pub fn handle(&mut self, event: WorkerEvent, now: Monotonic) -> Vec<Action> {
        let mut actions = self.on_event(event, now);
        self.follow_the_clock(now, &mut actions);
        self.follow_up(now, &mut actions);
        actions
    }

    fn on_event(&mut self, event: WorkerEvent, now: Monotonic) -> Vec<Action> {
        match event {
            WorkerEvent::Tick => Vec::new(),
            WorkerEvent::Woken => {
                self.hopeful = true;
                self.peek = true;
                Vec::new()
            }
            WorkerEvent::Claimed(job) => {
                self.claiming = false;
                self.hopeful = true;
                self.begin(job, now)
            }
            WorkerEvent::NothingToClaim { due_in_ms, unfinished, stuck } => {
                self.claiming = false;
                self.unfinished = Some(Unfinished { jobs: unfinished, stuck });
                self.due_at = due_in_ms.map(|ms| now.plus_ms(ms));
                Vec::new()
            }
            WorkerEvent::StoreTrouble => {
                self.claiming = false;
                Vec::new()
            }
            WorkerEvent::MachineTrouble(what) => self.begin_trouble(what, now),
            WorkerEvent::Examined(found) => self.examined(found, now),
            WorkerEvent::Returned { id, token, ending } => self.returned(id, token, ending, now),
            WorkerEvent::Settled(id, token) => {
                if self.holds(id, token) {
                    self.slots.remove(&id);
                }
                self.hopeful = true;
                Vec::new()
            }
            WorkerEvent::NotSettled(id, token) if self.is_stopping() && self.holds(id, token) => {
                // The next worker finds how the run ended, and finishes it.
                self.slots.remove(&id);
                Vec::new()
            }
            WorkerEvent::NotSettled(id, token) => {
                if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.token == token)
                    && let Phase::Finishing { retry_at, .. } = &mut slot.phase
                {
                    *retry_at = Some(now.plus_ms(self.settings.poll_ms));
                }
                Vec::new()
            }
            WorkerEvent::Seen { id, token, .. } if !self.holds(id, token) => Vec::new(),
            WorkerEvent::Seen { id, held, cancel, judging, .. } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.judging = judging;
                }
                match (held, cancel) {
                    (false, _) => self.stop_one(id, Stop::LeaseLost),
                    (true, true) => self.stop_one(id, Stop::Cancel),
                    // Nobody waits an hour for the end of what runs no more.
                    (true, false) if judging && self.is_ending() => self.stop_one(id, Stop::Detach),
                    (true, false) => Vec::new(),
                }
            }
            WorkerEvent::Peeked => {
                self.peeking = false;
                Vec::new()
            }
            WorkerEvent::Adopted(job) => self.adopt(job),
            WorkerEvent::OthersChanged => {
                self.recover = true;
                Vec::new()
            }
            WorkerEvent::Recovered => {
                self.recovering = false;
                self.recovered_once = true;
                self.hopeful = true;
                Vec::new()
            }
            WorkerEvent::Terminate => self.end(Exit::Terminated, self.settings.on_terminate),
            WorkerEvent::Interrupt => self.end(Exit::Interrupted, OnTerminate::Drain),
        }
    }

    /// Takes a claimed job on. One that comes after the end of claiming, or while what this worker
    /// did under an older lease of it has not let go yet, is put back.
    fn begin(&mut self, job: Box<Job>, now: Monotonic) -> Vec<Action> {
        let Some(token) = job.lease().map(|lease| lease.token) else { return Vec::new() };
        let id = job.id;
        self.next_start_at = now.plus_ms(self.settings.spawn_delay_ms);
        if self.slots.contains_key(&id) {
            self.next_start_at = now.plus_ms(self.settings.poll_ms);
            let mut actions = self.stop_one(id, Stop::LeaseLost);
            let report = Report::new(Reason::Shutdown, "its last attempt is being let go");
            actions.push(Action::Finish(id, token, report));
            return actions;
        }
        self.slots.insert(id, Slot::new(token));
        let mut actions = vec![Action::Execute(job)];
        match self.mode {
            Mode::Ending(Exit::Idle) | Mode::Working => {}
            Mode::Ending(_) | Mode::Stopping(_) => {
                actions.extend(self.stop_one(id, Stop::Shutdown))
            }
        }
        actions
    }

    /// Goes on with what another worker began. It counts against the cap before any claim, and may
    /// be more than this worker would have claimed.
    fn adopt(&mut self, job: Box<Job>) -> Vec<Action> {
        let Some(lease) = job.lease() else { return Vec::new() };
        let (id, token, cancel) = (job.id, lease.token, lease.cancel_requested);
        let judging = lease.judging.is_some();
        let takes_on = match self.mode {
            Mode::Working => !self.slots.contains_key(&id),
            Mode::Ending(_) | Mode::Stopping(_) => false,
        };
        if !takes_on {
            return vec![Action::LetGo(id, token)];
        }
        self.slots.insert(id, Slot { judging, resumed: true, ..Slot::new(token) });
        let mut actions = vec![Action::Resume(job)];
        if cancel {
            actions.extend(self.stop_one(id, Stop::Cancel));
        }
        actions
    }

    fn returned(&mut self, id: JobId, token: Token, ending: Ending, now: Monotonic) -> Vec<Action> {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.token == token) else {
            return Vec::new();
        };
        match ending {
            Ending::Over(mut report) if slot.stop_sent != Some(Stop::LeaseLost) => {
                // Free and at once is for what a worker has ordered.
                let nobody_asked = slot.stop_sent.is_none() && !slot.resumed;
                if report.reason == Reason::Shutdown && nobody_asked {
                    report.reason = Reason::Interrupted;
                }
                slot.phase = Phase::Finishing { report: report.clone(), retry_at: None };
                let mut actions = Vec::new();
                if report.reason == Reason::Machine {
                    actions.extend(self.begin_trouble(report.detail.clone(), now));
                } else {
                    self.examine_ms = limits::EXAMINE_MS;
                }
                actions.push(Action::Finish(id, token, report));
                actions
            }
            Ending::Over(_) => {
                self.slots.remove(&id);
                Vec::new()
            }
            Ending::LeftAlone => {
                let lost = slot.stop_sent == Some(Stop::LeaseLost);
                self.slots.remove(&id);
                if lost { Vec::new() } else { vec![Action::LetGo(id, token)] }
            }
        }
    }

    /// Claims nothing until an examination finds the machine well again. Says so once.
    fn begin_trouble(&mut self, what: String, now: Monotonic) -> Vec<Action> {
        if self.trouble.is_some() {
            return Vec::new();
        }
        self.trouble = Some(Trouble::Waiting(now.plus_ms(self.examine_ms)));
        self.examine_ms = self.examine_ms.saturating_mul(2).min(limits::EXAMINE_MS_LAST);
        vec![Action::Say(Notice::Trouble(what))]
    }

    fn examined(&mut self, found: Result<(), String>, now: Monotonic) -> Vec<Action> {
        match (self.trouble, found) {
            (None, _) => Vec::new(),
            (Some(_), Err(_)) => {
                self.trouble = Some(Trouble::Waiting(now.plus_ms(limits::EXAMINE_MS)));
                Vec::new()
            }
            (Some(_), Ok(())) => {
                self.trouble = None;
                self.hopeful = true;
                // What could not be written meanwhile need not wait any longer.
                for slot in self.slots.values_mut() {
                    if let Phase::Finishing { retry_at, .. } = &mut slot.phase {
                        *retry_at = retry_at.map(|_| now);
                    }
                }
                vec![Action::Say(Notice::TroubleOver)]
            }
        }
    }

    fn stop_one(&mut self, id: JobId, stop: Stop) -> Vec<Action> {
        let is_stronger = self.slots.get_mut(&id).is_some_and(|slot| slot.escalate(stop));
        if is_stronger { vec![Action::SendStop(id, stop)] } else { Vec::new() }
    }

    fn stop_all(&mut self, stop: Stop) -> Vec<Action> {
        let ids: Vec<JobId> = self.slots.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.stop_one(id, stop)).collect()
    }

    /// Lets go of what runs no more: the next worker reads how it ended.
    fn leave_those_judged(&mut self) -> Vec<Action> {
        let judging = self.slots.iter().filter(|(_, slot)| slot.judging);
        let ids: Vec<JobId> = judging.map(|(id, _)| *id).collect();
        ids.into_iter().flat_map(|id| self.stop_one(id, Stop::Detach)).collect()
    }

    /// The first request chooses how to end; a second one means at once.
    fn end(&mut self, exit: Exit, how: OnTerminate) -> Vec<Action> {
        let running = self.slots.len();
        let how = match self.mode {
            Mode::Working | Mode::Ending(Exit::Idle) => how,
            Mode::Ending(_) => OnTerminate::Stop,
            Mode::Stopping(_) => return Vec::new(),
        };
        let (mode, notice, mut actions) = match how {
            OnTerminate::Drain => {
                (Mode::Ending(exit), Notice::Draining(running), self.leave_those_judged())
            }
            OnTerminate::Detach => {
                (Mode::Ending(exit), Notice::Detaching(running), self.stop_all(Stop::Detach))
            }
            OnTerminate::Stop => {
                (Mode::Stopping(exit), Notice::Stopping(running), self.stop_all(Stop::Shutdown))
            }
        };
        self.mode = mode;
        if running > 0 {
            actions.insert(0, Action::Say(notice));
        }
        actions
    }

    /// What is due by the clock.
    fn follow_the_clock(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if now >= self.next_poll_at {
            self.next_poll_at = now.plus_ms(self.settings.poll_ms);
            self.hopeful = true;
            self.peek = true;
            self.recover = true;
        }
        if self.due_at.is_some_and(|due_at| now >= due_at) {
            self.due_at = None;
            self.hopeful = true;
        }
        if now >= self.next_renewal_at {
            self.next_renewal_at = now.plus_ms(self.settings.lease_ms / 3);
            let leases = self.leases();
            if !leases.is_empty() {
                actions.push(Action::Renew(leases));
            }
        }
        for (id, slot) in &mut self.slots {
            if let Phase::Finishing { report, retry_at } = &mut slot.phase
                && retry_at.is_some_and(|at| now >= at)
            {
                *retry_at = None;
                actions.push(Action::Finish(*id, slot.token, report.clone()));
            }
        }
    }

    /// What follows from where things stand.
    fn follow_up(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        // One peek at a time: a slow store must not find a line of them.
        if !self.peeking && std::mem::take(&mut self.peek) && !self.slots.is_empty() {
            self.peeking = true;
            actions.push(Action::Peek(self.leases()));
        }
        if let Some(Trouble::Waiting(at)) = self.trouble
            && now >= at
        {
            self.trouble = Some(Trouble::Examining);
            actions.push(Action::Examine);
        }
        let may_recover = self.mode == Mode::Working && !self.recovering && self.trouble.is_none();
        if may_recover && std::mem::take(&mut self.recover) {
            self.recovering = true;
            actions.push(Action::Recover(self.slots.keys().copied().collect()));
        }
        if self.may_claim() && self.hopeful && now >= self.next_start_at {
            self.hopeful = false;
            self.claiming = true;
            actions.push(Action::Claim);
        }
        if !self.slots.is_empty() || self.claiming {
            return;
        }
        match self.mode {
            Mode::Ending(exit) | Mode::Stopping(exit) => actions.push(Action::Exit(exit)),
            Mode::Working => {
                let may_end = self.settings.once && self.recovered_once && self.trouble.is_none();
                let Some(unfinished) = self.unfinished.filter(|_| may_end && !self.hopeful) else {
                    return;
                };
                if unfinished.jobs <= unfinished.stuck {
                    if unfinished.jobs > 0 {
                        actions.push(Action::Say(Notice::Stuck(unfinished.jobs)));
                    }
                    actions.push(Action::Exit(Exit::Idle));
                }
            }
        }
    }

    fn may_claim(&self) -> bool {
        let cap = usize::try_from(self.settings.cap).unwrap_or(usize::MAX);
        let judging = self.slots.values().filter(|slot| slot.judging).count();
        let judging_max = usize::try_from(limits::JUDGING_MAX).unwrap_or(usize::MAX);
        // What a dead worker left is looked at before anything new is begun.
        self.mode == Mode::Working
            && self.recovered_once
            && !self.claiming
            && self.trouble.is_none()
            && self.slots.len() - judging.min(judging_max) < cap
    }

    /// Whether a request has told it to end.
    fn is_ending(&self) -> bool {
        match self.mode {
            Mode::Working | Mode::Ending(Exit::Idle) => false,
            Mode::Ending(_) | Mode::Stopping(_) => true,
        }
    }

    fn is_stopping(&self) -> bool {
        match self.mode {
            Mode::Stopping(_) => true,
            Mode::Working | Mode::Ending(_) => false,
        }
    }

    fn holds(&self, id: JobId, token: Token) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.token == token)
    }

    fn leases(&self) -> Vec<(JobId, Token)> {
        self.slots.iter().map(|(id, slot)| (*id, slot.token)).collect()
    }
}
