//! Requests understood or refused, and captures from the order to the end of the file.

use super::pcapng::Reader;
use super::*;
use crate::dataplane::mailbox::mailbox;
use crate::dataplane::orders::{Answer, Order, WorkerEnd};
use crate::dataplane::snapshot::{PortView, Protocol, ServiceAddress, Snapshot, Steering};
use crate::ids::PortId;
use crate::stats::collect::{Names, ServiceEntry, Sources};
use crate::stats::slow::StaticFacts;
use crate::wire::Mac;
use crate::wire::vlan::{Tags, Vid};

/// A port with a device, one with a tag on it, and a service; so many workers.
struct Scene {
    ports: Vec<String>,
    snapshot: Arc<Snapshot>,
    directory: Arc<Directory>,
    publisher: Publisher,
    workers: Vec<WorkerEnd>,
}

impl Scene {
    fn new(workers: usize) -> Self {
        let view =
            |link| PortView { mac: Mac([2; 6]), mtu: 1500, steering: Steering::Software, link };
        let tags = Tags { outer: Vid::MIN, inner: None };
        let mut snapshot = Snapshot::default();
        snapshot.ports = [view(Link::Device), view(Link::Tagged { on: PortId(0), tags })].into();
        let sources = Sources::new(StaticFacts::default(), vec![], vec![]);
        let address = ServiceAddress::one([192, 0, 2, 1].into(), 80);
        let service = |id, name: &str| ServiceEntry {
            id: ServiceId(id),
            name: name.into(),
            protocol: Protocol::Tcp,
            address,
            removed: id > 1,
        };
        let services = vec![service(0, "dns"), service(1, "web"), service(2, "web")];
        sources.rename(Names { services, backends: vec![] });
        let (control, workers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mailbox()).unzip();
        Self {
            ports: vec!["wan".into(), "office".into()],
            snapshot: Arc::new(snapshot),
            directory: sources.directory(),
            publisher: Publisher::new(control),
            workers,
        }
    }

    fn world(&self) -> World<'_> {
        World {
            ports: &self.ports,
            snapshot: &self.snapshot,
            directory: &self.directory,
            workers: self.workers.len(),
            ticks: 1000,
            tsc_hz: 1_000_000_000,
        }
    }

    fn begin(
        &mut self,
        captures: &mut Captures,
        parameters: &Parameters,
    ) -> Result<Stream, CaptureError> {
        let (reply, mut answer) = oneshot::channel();
        captures.begin(parameters, &self.world(), reply);
        captures.poll(&mut self.publisher);
        answer.try_recv().unwrap()
    }

    /// What each worker was ordered, which it answers as workers do.
    fn ordered(&mut self) -> Vec<Option<Box<Capture>>> {
        let mut orders = Vec::new();
        for worker in &mut self.workers {
            while let Some(order) = worker.take() {
                let Order::Capture(part) = order else { panic!("expected a capture") };
                orders.push(part);
                worker.answer(Answer::Capture(None));
            }
        }
        self.publisher.poll();
        orders
    }
}

fn asked(parameters: &Parameters) -> Result<Asked, CaptureError> {
    parameters.understood(&Scene::new(1).world())
}

#[test]
fn a_request_that_says_nothing_wants_every_frame_both_ways_for_a_while() {
    let asked = asked(&Parameters::default()).unwrap();
    assert_eq!(asked.duration, Duration::from_secs(SECONDS));
    assert_eq!(asked.snap_len as u64, SNAP_LEN);
    let Wanted { before, after, place, services, filter, one_in, frames_max } = asked.wanted;
    assert!(before && after && place.is_none() && services.is_empty() && filter.is_none());
    assert_eq!((one_in.get(), frames_max), (1, FRAMES_MAX));
}

#[test]
fn names_are_ports_with_their_tags_and_all_ids_of_a_service() {
    let parameters = Parameters {
        port: Some("office".into()),
        service: Some("web".into()),
        moment: Some(AskedMoment::After),
        filter: Some("6.0.0.1".into()),
        ..Parameters::default()
    };
    let wanted = asked(&parameters).unwrap().wanted;
    let place = wanted.place.unwrap();
    assert_eq!((place.port, place.device, place.tags.is_some()), (PortId(1), PortId(0), true));
    assert_eq!(*wanted.services, [ServiceId(1), ServiceId(2)]);
    assert!(!wanted.before && wanted.after && wanted.filter.is_some());
}

#[test]
fn what_cannot_be_done_is_refused_with_what_could() {
    let nothing = Parameters::default;
    for (parameters, wanted) in [
        (Parameters { port: Some("lan".into()), ..nothing() }, "no port `lan`"),
        (Parameters { service: Some("ftp".into()), ..nothing() }, "ftp"),
        (Parameters { filter: Some("40.0.0.12".into()), ..nothing() }, "end with a verdict"),
        (Parameters { seconds: Some(0), ..nothing() }, "seconds between 1 and 3600, not 0"),
        (Parameters { seconds: Some(3601), ..nothing() }, "not 3601"),
        (Parameters { count: Some(0), ..nothing() }, "count between 1 and"),
        (Parameters { snap_len: Some(10_000), ..nothing() }, "snap_len between 1 and 9216"),
    ] {
        let error = asked(&parameters).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn every_worker_gets_its_part_and_gives_it_back_when_the_reader_has_gone() {
    let (mut scene, mut captures) = (Scene::new(2), Captures::default());
    let stream = scene.begin(&mut captures, &Parameters::default()).unwrap();
    assert!(matches!(scene.ordered()[..], [Some(_), Some(_)]));
    let second = scene.begin(&mut captures, &Parameters::default());
    assert_eq!(second.unwrap_err(), CaptureError::Busy);
    assert!(scene.ordered().is_empty() && !captures.is_pressing());
    drop(stream);
    captures.poll(&mut scene.publisher);
    assert!(matches!(scene.ordered()[..], [None, None]));
    let again = scene.begin(&mut captures, &Parameters::default());
    assert!(again.is_ok(), "another one may begin");
}

#[tokio::test]
async fn the_file_has_the_frames_of_all_workers_in_their_order_and_ends_with_the_count() {
    let (mut scene, mut captures) = (Scene::new(2), Captures::default());
    let parameters = Parameters { count: Some(3), snap_len: Some(60), ..Parameters::default() };
    let mut stream = scene.begin(&mut captures, &parameters).unwrap();
    let parts: Vec<_> = scene.ordered().into_iter().flatten().collect();
    let rings: Vec<_> = parts.iter().map(|part| part.ring()).collect();
    for (ring, ticks) in [(0_u8, 5_000), (1, 2_000), (1, 3_000), (0, 9_000)] {
        assert!(rings[usize::from(ring)].put_at(&[0xa0 | ring; 100], ticks));
    }
    let mut file = Vec::new();
    while let Some(part) = stream.next().await {
        file.extend(part);
    }
    let mut reader = Reader::default();
    reader.read(&file);
    assert!(reader.is_whole());
    assert_eq!((reader.frames, reader.missed), (3, Some(0)));
    let frame = |bytes: &[u8]| bytes[0] & 0xfe == 0xa0 && bytes.iter().all(|it| *it == bytes[0]);
    let frames: Vec<_> = file.windows(60).filter(|it| frame(it)).map(|it| it[0] & 1).collect();
    assert_eq!(frames, [1, 1, 0]);
}

#[tokio::test]
async fn a_capture_in_which_nothing_comes_ends_with_its_time() {
    let (mut scene, mut captures) = (Scene::new(1), Captures::default());
    let parameters = Parameters { seconds: Some(1), ..Parameters::default() };
    let mut stream = scene.begin(&mut captures, &parameters).unwrap();
    let mut reader = Reader::default();
    while let Some(part) = stream.next().await {
        reader.read(&part);
    }
    assert_eq!((reader.frames, reader.is_whole()), (0, true));
}
