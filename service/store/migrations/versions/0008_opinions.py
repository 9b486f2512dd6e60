"""What readers say of the findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table('opinion',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('reader', sa.String(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('bundle', sa.String(), nullable=False),
        sa.Column('version', sa.String(), nullable=False),
        sa.Column('digest', sa.String(), nullable=False),
        sa.Column('finding', sa.String(), nullable=False),
        sa.Column('presence', sa.String(), nullable=False),
        sa.Column('probability', sa.Float(), nullable=False),
        sa.Column('threshold', sa.Float(), nullable=False),
        sa.Column('verdict', sa.String(), nullable=False),
        sa.Column('why', sa.String(), nullable=False),
        sa.Column('note', sa.String(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('sender', sa.String(), nullable=False),
        sa.Column('scanner', sa.String(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('study_id', 'bundle', 'finding', 'reader')
    )
    op.create_index('ix_opinion_study_id', 'opinion', ['study_id'])
    op.create_index('ix_opinion_at', 'opinion', ['at'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('opinion')
