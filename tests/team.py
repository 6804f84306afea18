"""Where a team's state lives, for tests: a fresh bucket, a fresh database and a Redis of their own."""

from tests.postgres_server import new_database
from tests.s3_server import CREDENTIALS, new_bucket


def variables(endpoint, postgres, redis_url):
    """The environment of every machine of one team."""
    return CREDENTIALS | {
        "AWS_ENDPOINT_URL": endpoint,
        "FTI_STORAGE_URI": new_bucket(endpoint),
        "FTI_DATABASE_URL": new_database(postgres),
        "FTI_ONLINE_STORE_URI": redis_url,
        "FTI_EVENTS_URI": redis_url,
    }
