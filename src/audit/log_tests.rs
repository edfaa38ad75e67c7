//! What becomes of lines, also where their way is slow or cut off.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use super::{AuditLog, Destination};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Writes once it is let to, and as it is told.
struct Slow {
    turns: Receiver<io::Result<()>>,
    written: Written,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody is left to stop it at the end.
        self.turns.recv().unwrap_or(Ok(()))?;
        self.written.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_destination_is_a_file_or_standard_output() {
    assert_eq!("-".parse(), Ok(Destination::StandardOutput));
    assert_eq!("/var/log/audit".parse(), Ok(Destination::File("/var/log/audit".into())));
    assert!("".parse::<Destination>().is_err());
}

#[tokio::test]
async fn a_file_goes_on_where_it_ends_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let destination = Destination::File(path.clone());
    for line in ["one\n", "two\n"] {
        let log = AuditLog::open(&destination).unwrap();
        log.write(line.as_bytes().to_vec());
        log.finish().await;
        assert_eq!(log.lost(), 0);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(AuditLog::open(&Destination::File(folder.path().join("no/such/folder"))).is_err());
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_lost_and_counted_and_nobody_waits() {
    let (turn, turns) = channel();
    let written = Written::default();
    let log = AuditLog::to(Slow { turns, written: written.clone() }, 4).unwrap();
    // The writer holds what it took when it was stopped, the queue four more at most.
    let many = 300;
    for number in 0..many {
        log.write(format!("{number}\n").into_bytes());
    }
    let lost = log.lost();
    assert!(lost >= 1, "no writer was let go on");
    drop(turn);
    log.finish().await;
    assert_eq!(written.text().lines().count() as u64 + lost, many);
    assert_eq!(log.lost(), lost);
}

#[tokio::test]
async fn lines_that_could_not_be_written_are_counted_and_the_next_begins_a_line_of_its_own() {
    let (turn, turns) = channel();
    let written = Written::default();
    let log = AuditLog::to(Slow { turns, written: written.clone() }, 16).unwrap();
    turn.send(Err(io::Error::other("disk full"))).unwrap();
    log.write(b"one\n".to_vec());
    log.finish().await;
    assert_eq!((log.lost(), written.text().as_str()), (1, ""));
    turn.send(Ok(())).unwrap();
    log.write(b"two\n".to_vec());
    log.finish().await;
    assert_eq!((log.lost(), written.text().as_str()), (1, "\ntwo\n"));
}
