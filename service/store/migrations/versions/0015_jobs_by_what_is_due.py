"""Which jobs are due, leased or parked is found without a look at all that wait or were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None

_OPEN = sa.text("state IN ('waiting', 'leased')")


def upgrade() -> None:
    """Go to this revision."""
    op.drop_index('ix_job_open', table_name='job')
    for name, columns, where in (
            ('ix_job_open', ['kind', 'target', 'deadline_at', 'id'], _OPEN),
            ('ix_job_due', ['kind', 'target', 'urgency', 'not_before_at'], sa.text("state = 'waiting'")),
            ('ix_job_leased', ['kind', 'target', 'lease_until_at'], sa.text("state = 'leased'")),
            ('ix_job_parked', ['kind'], sa.text("state = 'parked'"))):
        op.create_index(name, 'job', columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back to the revision before."""
    for name in ('ix_job_open', 'ix_job_due', 'ix_job_leased', 'ix_job_parked'):
        op.drop_index(name, table_name='job')
    op.create_index('ix_job_open', 'job', ['kind', 'deadline_at', 'id'], sqlite_where=_OPEN, postgresql_where=_OPEN)
