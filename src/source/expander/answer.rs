//! The call itself: all ids back at once; whatever else happens, an answer is never empty.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use prost::Message;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};

use crate::port::Clock;
use crate::source::expander::ask;
use crate::source::expander::queue::{Call, Queue};
use crate::source::expander::wire::expander::{BestOptionsResponse, Option as Choice};
use crate::telemetry::metric::Counters;

/// The one method.
const METHOD: &str = "/grpcplugin.Expander/BestOptions";

/// Largest request: what the autoscaler's client takes as an answer (gRPCMaxRecvMsgSize, grpc_client.go).
const REQUEST_MAX: usize = 128 << 20;

/// Calls that are received at the same time. An autoscaler makes one at a time; a second may follow one that it has
/// given up.
const AT_ONCE: usize = 2;

/// How long a request may take to arrive: the autoscaler itself gives up after 5 s (gRPCTimeout, grpc_client.go).
const ARRIVAL: Duration = Duration::from_secs(10);

/// Header of an answer that is an error.
const STATUS: &str = "grpc-status";

/// Answers calls and puts them into the queue.
#[derive(Clone)]
pub struct Answering {
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    calls: Counters,
    room: Arc<Semaphore>,
}

impl Answering {
    /// Calls go into the queue and are counted by outcome.
    pub fn new(queue: Arc<Queue>, clock: Arc<dyn Clock>, calls: Counters) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            queue,
            clock,
            calls,
            room,
        }
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        if request.uri().path() != METHOD {
            return Status::unimplemented("only BestOptions is served").into_http();
        }
        let room = Arc::clone(&self.room);
        let _place = match room.try_acquire() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                self.calls.of("busy").inc();
                return Status::resource_exhausted("calls are being received already").into_http();
            }
        };
        let calls = self.calls.clone();
        let mut grpc =
            Grpc::new(Raw).apply_max_message_size_config(Some(REQUEST_MAX), Some(REQUEST_MAX));
        let answer = match timeout(ARRIVAL, grpc.unary(Arrived(self), request)).await {
            Ok(answer) => answer,
            Err(_) => Status::deadline_exceeded("the request took too long to arrive").into_http(),
        };
        calls.of(outcome(&answer)).inc();
        answer
    }

    fn answer(&self, request: Bytes) -> Result<Response<BestOptionsResponse>, Status> {
        let ids = ask::ids(&request)
            // An error leaves the autoscaler all its options; an answer without any would leave it none.
            .map_err(|reason| Status::invalid_argument(reason.to_string()))?;
        let at = self.clock.now();
        let dropped = self.queue.push(Call { at, request });
        self.calls.of("not_decoded").inc_by(dropped);
        let options = ids.into_iter().map(|node_group_id| Choice {
            node_group_id,
            ..Choice::default()
        });
        Ok(Response::new(BestOptionsResponse {
            options: options.collect(),
        }))
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for Answering {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.serve(request).await) })
    }
}

/// The same for a request that has arrived whole.
struct Arrived(Answering);

impl UnaryService<Bytes> for Arrived {
    type Response = BestOptionsResponse;
    type Future = std::future::Ready<Result<Response<BestOptionsResponse>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(self.0.answer(request.into_inner()))
    }
}

/// Error answers say so in a header, others in a trailer.
fn outcome(answer: &http::Response<Body>) -> &'static str {
    let Some(status) = answer.headers().get(STATUS) else {
        return "answered";
    };
    match Code::from_bytes(status.as_bytes()) {
        Code::Ok => "answered",
        Code::InvalidArgument => "unreadable",
        Code::OutOfRange | Code::ResourceExhausted => "too_large",
        Code::DeadlineExceeded => "slow",
        _ => "failed",
    }
}

/// Requests as they come, answers as messages.
struct Raw;

impl Codec for Raw {
    type Encode = BestOptionsResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = BestOptionsResponse;
    type Error = Status;

    fn encode(
        &mut self,
        answer: BestOptionsResponse,
        to: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        answer
            .encode(to)
            .map_err(|reason| Status::internal(reason.to_string()))
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
