"""When and by whom a study was marked as read, and its rank then; an index for the counts of the worklist."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision; nothing is marked as read yet."""
    op.add_column('study', sa.Column('read_at', sa.Float(), nullable=True))
    op.add_column('study', sa.Column('read_by', sa.String(), nullable=True))
    op.add_column('study', sa.Column('read_rank', sa.Integer(), nullable=True))
    op.create_index('ix_study_seen', 'study', ['last_received_at', 'first_received_at', 'state', 'read_at', 'read_rank',
                                               'reading_rank'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index('ix_study_seen', 'study')
    for name in ('read_rank', 'read_by', 'read_at'):
        op.drop_column('study', name)
