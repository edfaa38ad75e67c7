//! States that differ by nothing that is ever compared are one: times count by
//! their order and by which deadlines lie between them, versions by which are
//! the same.

use super::{
    operator::{Eyes, Pass},
    record::{Status, Stored},
    rollout::Reply,
    world::{Notes, Secret, Shown, Workload, World, Write},
};

/// A gap at least as long as a deadline; shorter ones are one second.
const LONG: i64 = 2000;

/// Whose version it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Secret,
    Status,
    Workload(usize),
}

/// Every time and every version in the world.
#[derive(Default)]
struct Marks<'a> {
    times: Vec<&'a mut i64>,
    versions: Vec<(Of, &'a mut u32)>,
}

pub fn settle(world: &mut World) {
    if world.faults == 0 {
        // Nobody looks at what was any more.
        world.secret_before = None;
        world.status_before = None;
        world.workloads_before = [None, None];
    }
    let mut marks = Marks::default();
    marks.world(world);
    marks.times.sort_unstable();
    let (mut last, mut counted) = (None, 0);
    for time in marks.times {
        let gap = last.map_or(0, |last| *time - last);
        last = Some(*time);
        counted += if gap >= LONG { LONG } else { gap.min(1) };
        *time = counted;
    }
    for of in [Of::Secret, Of::Status, Of::Workload(0), Of::Workload(1)] {
        let mut known: Vec<u32> = marks.versions.iter().filter(|(one, _)| *one == of).map(|(_, have)| **have).collect();
        known.sort_unstable();
        known.dedup();
        for (_, version) in marks.versions.iter_mut().filter(|(one, _)| *one == of) {
            let place = known.iter().position(|have| have == *version).expect("it is among them");
            **version = u32::try_from(place).expect("few");
        }
    }
    for workload in &mut world.workloads {
        workload.pods.sort_unstable();
    }
}

impl<'a> Marks<'a> {
    fn world(&mut self, world: &'a mut World) {
        self.times.push(&mut world.now);
        self.secret(&mut world.secret);
        world.secret_before.iter_mut().for_each(|secret| self.secret(secret));
        for (version, status) in std::iter::once(&mut world.status).chain(&mut world.status_before) {
            self.versions.push((Of::Status, version));
            self.status(status);
        }
        for (index, workload) in world.workloads.iter_mut().enumerate() {
            self.workload(index, workload);
        }
        for (index, shown) in world.workloads_before.iter_mut().enumerate() {
            if let Some(shown) = shown {
                self.shown(index, shown);
            }
        }
        self.notes(&mut world.notes);
        world.late.iter_mut().for_each(|write| self.write(write));
        match &mut world.pass {
            None => {}
            Some(Pass::Sync { eyes, write }) => {
                self.eyes(eyes);
                self.write(write);
            }
            Some(Pass::Look { eyes, .. }) => self.eyes(eyes),
            Some(Pass::Roll { eyes, began, log, write, .. }) => {
                self.eyes(eyes);
                self.times.push(began);
                self.write(write);
                for reply in log {
                    if let Reply::Saw(index, workload) = reply {
                        self.workload(*index, workload);
                    }
                }
            }
            Some(Pass::Report { notes, write }) => {
                self.notes(notes);
                self.write(write);
            }
        }
    }

    fn eyes(&mut self, eyes: &'a mut Eyes) {
        self.versions.push((Of::Status, &mut eyes.status.0));
        self.status(&mut eyes.status.1);
        for (index, shown) in eyes.workloads.iter_mut().enumerate() {
            self.shown(index, shown);
        }
        self.secret(&mut eyes.secret);
        self.notes(&mut eyes.notes);
    }

    fn secret(&mut self, secret: &'a mut Secret) {
        self.versions.push((Of::Secret, &mut secret.version));
        self.times.push(&mut secret.written);
        self.stored(&mut secret.state);
    }

    fn stored(&mut self, state: &'a mut Stored) {
        self.times.extend(&mut state.since);
        self.times.extend(state.changed.iter_mut().map(|(_, time)| time));
    }

    fn status(&mut self, status: &'a mut Status) {
        self.versions.push((Of::Secret, &mut status.target.0));
        for told in status.workloads.iter_mut().flatten() {
            self.times.extend(&mut told.since);
            self.times.extend(&mut told.rolled_at);
        }
        self.times.extend(status.rotation.iter_mut().map(|(_, _, started, _)| started));
    }

    fn workload(&mut self, index: usize, workload: &'a mut Workload) {
        self.versions.push((Of::Workload(index), &mut workload.version));
        for pod in &mut workload.pods {
            self.times.push(&mut pod.created);
            self.times.push(&mut pod.started);
        }
    }

    fn shown(&mut self, index: usize, shown: &'a mut Shown) {
        self.versions.push((Of::Workload(index), &mut shown.version));
    }

    fn notes(&mut self, notes: &'a mut Notes) {
        for (index, version) in notes.looked_at.iter_mut().enumerate() {
            self.versions.extend(version.iter_mut().map(|version| (Of::Workload(index), version)));
        }
        self.times.extend(notes.found_current.iter_mut().flatten().map(|(_, _, time)| time));
    }

    fn write(&mut self, write: &'a mut Write) {
        match write {
            Write::Secret { version, state, .. } => {
                self.versions.push((Of::Secret, version));
                self.stored(state);
            }
            Write::Patch { index, version, .. } => self.versions.push((Of::Workload(*index), version)),
            Write::Status { version, status } => {
                self.versions.push((Of::Status, version));
                self.status(status);
            }
        }
    }
}
