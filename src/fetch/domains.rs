//! What is shared by the stores of one quota domain, whoever wrote them.
//!
//! Rate and places are shared by those who go the same way to it (address,
//! trusted certificates, proxy), patience by those of them whom the manager
//! may count together, and the breaker by those who wait as long for an
//! answer. A tenant's store with a wrong caBundle, a dead proxy or a timeout of
//! 100 ms learns things that are true for itself alone; and one whose endpoint
//! or proxy is the tenant's own names any domain it likes, so what it sends
//! there must use up nothing of anybody else's. Besides, each identity has a
//! breaker of its own, for what fails for it alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, broadcast},
    time::Instant,
};

use super::{
    breaker::{Breaker, Party, Patience},
    lane::{Lane, Rate, StoreLimits},
    locked,
    way::{Circle, Route, Way},
};

/// Requests that go one way to one domain.
pub(super) struct Traffic {
    pub(super) rate: Option<Rate>,
    pub(super) places: Arc<Semaphore>,
}

/// By what is asked for, and who asks.
type OwnDoors = HashMap<(Circle, Arc<Party>), Arc<Mutex<Breaker>>>;

/// Whether a domain answers on one way within one deadline.
pub(super) struct Door {
    pub(super) breaker: Mutex<Breaker>,
    /// Each party's own, by what is asked for too: who cannot log in may still
    /// read.
    own: Mutex<OwnDoors>,
    /// Stores by UID, with how many of their lanes lead here.
    stores: Mutex<HashMap<String, usize>>,
    recovered: broadcast::Sender<String>,
}

impl Door {
    fn join(&self, store: &str) {
        *locked(&self.stores).entry(store.to_owned()).or_default() += 1;
    }

    pub(super) fn leave(&self, store: &str) {
        let mut stores = locked(&self.stores);
        if let Some(lanes) = stores.get_mut(store) {
            *lanes -= 1;
            if *lanes == 0 {
                stores.remove(store);
            }
        }
    }

    /// The party's own door for these requests.
    fn own(&self, circle: &Circle, party: &Arc<Party>) -> Arc<Mutex<Breaker>> {
        let new = || Arc::new(Mutex::new(Breaker::of_one()));
        Arc::clone(locked(&self.own).entry((circle.clone(), Arc::clone(party))).or_insert_with(new))
    }

    /// Tells the UID of every store that has its lane here. Those whose own
    /// doors closed meanwhile may find out at once.
    pub(super) fn tell_recovered(&self, now: Instant) {
        for own in locked(&self.own).values() {
            locked(own).hurry(now);
        }
        for store in locked(&self.stores).keys() {
            self.tell_one_recovered(store);
        }
    }

    /// Whether nobody uses it and nothing would be forgotten with it.
    fn is_idle(&self, now: Instant) -> bool {
        let mut own = locked(&self.own);
        own.retain(|_, own| Arc::strong_count(own) > 1 || locked(own).is_closed(now));
        own.is_empty() && !locked(&self.breaker).is_closed(now)
    }

    /// Tells this store's UID.
    pub(super) fn tell_one_recovered(&self, store: &str) {
        // Nobody may be listening.
        let _ = self.recovered.send(store.to_owned());
    }
}

/// All domains.
pub(super) struct Domains {
    known: Mutex<Known>,
    recovered: broadcast::Sender<String>,
}

/// A domain on one way.
type Place = (String, Way);

#[derive(Default)]
struct Known {
    traffic: HashMap<Place, Arc<Traffic>>,
    patience: HashMap<(Place, Circle), Arc<Mutex<Patience>>>,
    /// For those who wait so long.
    doors: HashMap<(Place, Duration), Arc<Door>>,
}

impl Domains {
    /// `recovered` is told the UIDs of the stores of a domain that comes back.
    pub(super) fn new(recovered: broadcast::Sender<String>) -> Self {
        Self { known: Mutex::default(), recovered }
    }

    /// The lane of one party's requests of one kind.
    pub(super) fn lane(&self, party: &Arc<Party>, limits: &Arc<StoreLimits>, route: &Route) -> Arc<Lane> {
        let Route { quota, way, circle } = route;
        let new_traffic = || {
            let places = Arc::new(Semaphore::new(quota.in_flight.max(1) as usize));
            Arc::new(Traffic { rate: Rate::of(quota.requests_per_second), places })
        };
        let new_door = || {
            let (breaker, recovered) = (Mutex::new(Breaker::of_all()), self.recovered.clone());
            Arc::new(Door { breaker, own: Mutex::default(), stores: Mutex::default(), recovered })
        };
        let place = (quota.name.clone(), way.clone());
        let mut known = locked(&self.known);
        let key = (place.clone(), limits.deadline);
        let door = Arc::clone(known.doors.entry(key).or_insert_with(new_door));
        let lane = Lane {
            limits: Arc::clone(limits),
            traffic: Arc::clone(known.traffic.entry(place.clone()).or_insert_with(new_traffic)),
            patience: Arc::clone(known.patience.entry((place, circle.clone())).or_default()),
            own: door.own(circle, party),
            door,
            party: Arc::clone(party),
        };
        lane.door.join(&party.store);
        Arc::new(lane)
    }

    /// Drops what nobody uses and nothing would be lost with.
    pub(super) fn sweep(&self, now: Instant) {
        let mut known = locked(&self.known);
        let Known { traffic, patience, doors } = &mut *known;
        traffic.retain(|_, traffic| Arc::strong_count(traffic) > 1);
        patience.retain(|_, patience| Arc::strong_count(patience) > 1 || locked(patience).refusal(now).is_some());
        doors.retain(|_, door| !door.is_idle(now) || Arc::strong_count(door) > 1);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let known = locked(&self.known);
        known.doors.is_empty() && known.traffic.is_empty() && known.patience.is_empty()
    }
}
