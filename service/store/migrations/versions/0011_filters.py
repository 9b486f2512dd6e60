"""What was found as a column, and an index on the end of reception: for the filters of the worklist."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from service.store.tables import found_in

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

_SEEN = ['last_received_at', 'first_received_at', 'state', 'read_at', 'read_rank', 'reading_rank']


def upgrade() -> None:
    """Go to this revision; what was found is taken from the results. No index holds what each image changes."""
    op.add_column('study', sa.Column('found', sa.String(), nullable=True))
    study = sa.table('study', sa.column('id', sa.Integer), sa.column('summary', sa.JSON), sa.column('found', sa.String))
    connection = op.get_bind()
    for number, summary in connection.execute(sa.select(study.c.id, study.c.summary)).all():
        found = found_in(json.loads(summary) if isinstance(summary, str) else summary or {})
        if found:
            connection.execute(study.update().where(study.c.id == number).values(found=found))
    op.drop_index('ix_study_seen', 'study')
    op.create_index('ix_study_completed', 'study', ['completed_at', 'found'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index('ix_study_completed', 'study')
    op.create_index('ix_study_seen', 'study', _SEEN)
    op.drop_column('study', 'found')
