//! cluster-autoscaler's side of the call: what it sends, what it makes of an answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forelay::source::expander::wire::expander::expander_client::ExpanderClient;
use forelay::source::expander::wire::expander::{
    BestOptionsRequest, BestOptionsResponse, Option as Choice,
};
use futures::stream::pending;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// gRPCMaxRecvMsgSize of grpc_client.go, for answers.
const ANSWER_MAX: usize = 128 << 20;

/// An autoscaler with `--grpc-expander-url` and `--grpc-expander-cert`.
pub struct Autoscaler {
    client: ExpanderClient<Channel>,
    channel: Channel,
    timeout: Duration,
}

/// A server's certificate and what has to be trusted for it.
pub fn certify(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// The certificate in a folder, as the autoscaler reads it.
pub fn certificate(folder: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap()
}

pub fn choice(group: &str, nodes: i32, pods: impl IntoIterator<Item = Vec<u8>>) -> Choice {
    Choice {
        node_group_id: group.to_owned(),
        node_count: nodes,
        debug: format!("{group} * {nodes}"),
        pod_bytes: pods.into_iter().map(Bytes::from).collect(),
    }
}

pub fn request(options: Vec<Choice>) -> BestOptionsRequest {
    BestOptionsRequest {
        options,
        ..BestOptionsRequest::default()
    }
}

impl Autoscaler {
    /// Connects when it first asks, as grpc-go does; `localhost` has to be in the server's certificate.
    pub fn new(port: u16, trusted: CertificateDer<'static>, timeout: Duration) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        let connect = service_fn(move |_: Uri| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                let name = ServerName::try_from("localhost").unwrap();
                let stream = tls.connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://localhost:{port}")).unwrap();
        let channel = endpoint.connect_with_connector_lazy(connect);
        let client = ExpanderClient::new(channel.clone());
        Self {
            channel,
            client: client
                .max_decoding_message_size(ANSWER_MAX)
                .max_encoding_message_size(usize::MAX),
            timeout,
        }
    }

    /// The call alone.
    pub async fn ask(&self, request: BestOptionsRequest) -> Result<BestOptionsResponse, Status> {
        let mut client = self.client.clone();
        match tokio::time::timeout(self.timeout, client.best_options(request)).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        }
    }

    /// Begins a call whose request never comes.
    pub async fn stall(&self) -> Result<BestOptionsResponse, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let request = tonic::Request::new(pending::<BestOptionsRequest>());
        let path = PathAndQuery::from_static("/grpcplugin.Expander/BestOptions");
        let answer = grpc.client_streaming(request, path, ProstCodec::default());
        answer.await.map(tonic::Response::into_inner)
    }

    /// The groups that are left to the next expander: `grpcclientstrategy.BestOptions` and
    /// `transformAndSanitizeOptionsFromGRPC` of grpc_client.go, line for line.
    pub async fn best_options(&self, request: BestOptionsRequest) -> Vec<String> {
        let options = request.options.iter();
        let options: Vec<String> = options.map(|one| one.node_group_id.clone()).collect();
        let Ok(answer) = self.ask(request).await else {
            return options; // "GRPC call failed, no options filtered"
        };
        if answer.options.is_empty() {
            return Vec::new(); // "GRPC returned nil bestOptions"
        }
        let answered = answer.options.into_iter().map(|one| one.node_group_id);
        let known: Vec<String> = answered.filter(|id| options.contains(id)).collect();
        if known.is_empty() {
            return options; // "Unable to sanitize GPRC returned bestOptions, no options filtered"
        }
        known
    }
}
