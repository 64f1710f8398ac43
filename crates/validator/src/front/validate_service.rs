use std::pin::Pin;

use keyward_proto::validate::validate_service_server::ValidateService;
use keyward_proto::validate::{
    BatchValidateTokensRequest, BatchValidateTokensResponse, StreamValidateTokensRequest, StreamValidateTokensResponse,
    ValidateTokenRequest, ValidateTokenResponse,
};
use keyward_runtime::shutdown::Shutdown;
use keyward_runtime::status;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::front::{batch_validate_tokens, stream_validate_tokens, validate_token};
use crate::validate::Validator;

/// The service `keyward.validate.v1.ValidateService`.
#[derive(Clone, Debug)]
pub(crate) struct ValidateApi {
    pub(crate) validator: Validator,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl ValidateService for ValidateApi {
    type StreamValidateTokensStream =
        Pin<Box<dyn Stream<Item = Result<StreamValidateTokensResponse, Status>> + Send + 'static>>;

    async fn validate_token(
        &self,
        request: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        status::respond(validate_token::answer(&self.validator, request.get_ref()))
    }

    async fn batch_validate_tokens(
        &self,
        request: Request<BatchValidateTokensRequest>,
    ) -> Result<Response<BatchValidateTokensResponse>, Status> {
        status::respond(batch_validate_tokens::answer(&self.validator, request.get_ref()))
    }

    async fn stream_validate_tokens(
        &self,
        request: Request<Streaming<StreamValidateTokensRequest>>,
    ) -> Result<Response<Self::StreamValidateTokensStream>, Status> {
        let (validator, shutdown) = (self.validator.clone(), self.shutdown.clone());
        Ok(Response::new(Box::pin(stream_validate_tokens::answers(validator, request.into_inner(), shutdown))))
    }
}
