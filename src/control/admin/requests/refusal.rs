//! Why a request is refused: a status code and a sentence, of every kind of error there is behind the routes.
//!
//! ```text
//! 400 it says what makes no sense      404 what it names is not there      409 not now, or not so
//! 503 those who should answer do not   500 the machine failed
//! ```

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::control::admin::answers::capture::CaptureError;
use crate::control::admin::answers::clear::ClearError;
use crate::control::admin::answers::dump::DumpError;
use crate::control::admin::answers::explain::ExplainError;
use crate::control::admin::answers::trace::TraceError;
use crate::control::admin::view::Failure;
use crate::control::save::SaveError;

/// An error as JSON.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl From<DumpError> for Refusal {
    fn from(error: DumpError) -> Self {
        let code = match &error {
            DumpError::BadQuery(_) => StatusCode::BAD_REQUEST,
            DumpError::NoService(_) => StatusCode::NOT_FOUND,
            DumpError::Busy | DumpError::Silent(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        let code = match error {
            CaptureError::Query(error) => return error.into(),
            CaptureError::NoPort(_) => StatusCode::NOT_FOUND,
            CaptureError::Number { .. } | CaptureError::Filter(_) => StatusCode::BAD_REQUEST,
            CaptureError::Busy => StatusCode::CONFLICT,
        };
        Self(code, error.to_string())
    }
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        let code = match &error {
            ExplainError::Flow(_) => StatusCode::BAD_REQUEST,
            ExplainError::NoPort(_) => StatusCode::NOT_FOUND,
            ExplainError::Busy => StatusCode::CONFLICT,
            ExplainError::Silent(_) | ExplainError::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl From<TraceError> for Refusal {
    fn from(error: TraceError) -> Self {
        let code = match error {
            TraceError::Busy => StatusCode::CONFLICT,
            TraceError::Flow(_) | TraceError::Number { .. } => StatusCode::BAD_REQUEST,
        };
        Self(code, error.to_string())
    }
}

impl From<ClearError> for Refusal {
    fn from(error: ClearError) -> Self {
        let code = match &error {
            ClearError::Query(DumpError::NoService(_)) | ClearError::Nobody(_) => {
                StatusCode::NOT_FOUND
            }
            ClearError::Query(_) | ClearError::Whose => StatusCode::BAD_REQUEST,
            ClearError::Busy => StatusCode::CONFLICT,
            ClearError::Silent(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}

impl From<SaveError> for Refusal {
    fn from(error: SaveError) -> Self {
        let code = match &error {
            SaveError::Changed { .. } => StatusCode::CONFLICT,
            SaveError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(code, error.to_string())
    }
}
