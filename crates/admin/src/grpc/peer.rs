use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{AdminLife, Epoch, Error, Position, Revision};
use keyward_proto::replica::peer_service_server::PeerService;
use keyward_proto::replica::{
    BarrierRequest, BarrierResponse, GetHeartbeatRequest, GetHeartbeatResponse, HintRequest, HintResponse,
};
use keyward_runtime::{deadline, status};
use tonic::{Request, Response, Status};

use crate::app::App;

/// Time for the answer to reach the other admin before its deadline.
const MARGIN: Duration = Duration::from_millis(50);

/// `PeerService`. Its methods reveal nothing about keys and change nothing, so stations 1 and 2 of `crate::auth` suffice.
#[derive(Clone, Debug)]
pub(crate) struct PeerApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn barrier(&self, request: Request<BarrierRequest>) -> Result<Response<BarrierResponse>, Status> {
        let timeout = deadline::of(request.metadata()).map(|timeout| timeout.saturating_sub(MARGIN));
        let answered = barrier(&self.0, request.get_ref(), timeout).await;
        answered.map(Response::new).map_err(|error| status::from_error(&error))
    }

    async fn hint(&self, request: Request<HintRequest>) -> Result<Response<HintResponse>, Status> {
        self.0.publisher.peer_announced(Revision(request.get_ref().revision));
        Ok(Response::new(HintResponse {}))
    }

    async fn get_heartbeat(
        &self,
        request: Request<GetHeartbeatRequest>,
    ) -> Result<Response<GetHeartbeatResponse>, Status> {
        let life = life(&request.get_ref().incarnation).map_err(|error| status::from_error(&error))?;
        let age = self.0.publisher.answered_heartbeat(life);
        let age = age.and_then(|age| prost_types::Duration::try_from(age).ok());
        Ok(Response::new(GetHeartbeatResponse { age }))
    }
}

async fn barrier(app: &App, request: &BarrierRequest, timeout: Option<Duration>) -> Result<BarrierResponse, Error> {
    let (life, position) = (life(&request.incarnation)?, position(request)?);
    let cleared = app.publisher.clear_for_peer(life, &position, timeout).await?;
    Ok(cleared.map_or_else(BarrierResponse::default, |cleared| BarrierResponse {
        cleared: true,
        validators_acked: u32::try_from(cleared.acked).unwrap_or(u32::MAX),
        validators_lapsed: u32::try_from(cleared.lapsed).unwrap_or(u32::MAX),
    }))
}

fn life(incarnation: &[u8]) -> Result<AdminLife, Error> {
    let life: Result<[u8; 16], _> = incarnation.try_into();
    life.map(AdminLife::from_bytes).map_err(|_| Error::field("incarnation", "16 bytes"))
}

fn position(request: &BarrierRequest) -> Result<Position, Error> {
    let epoch = Epoch::from_text(&request.epoch).ok_or_else(|| Error::field("epoch", "a UUID"))?;
    if request.revision < 1 {
        return Err(Error::field("revision", "1 or more"));
    }
    let chain = request.chain.as_slice().try_into().map_err(|_| Error::field("chain", "32 bytes"))?;
    Ok(Position { epoch, revision: Revision(request.revision), chain })
}
