"""Work items of Unified Procedure Step managers that were claimed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'workitem',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('uid', sa.String(length=64), nullable=False),
        sa.Column('manager', sa.String(), nullable=False),
        sa.Column('transaction_uid', sa.String(length=64), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('priority', sa.String(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('found_at', sa.Float(), nullable=False),
        sa.Column('claimed_at', sa.Float(), nullable=True),
        sa.Column('cancel_at', sa.Float(), nullable=True),
        sa.Column('ended_at', sa.Float(), nullable=True),
        sa.Column('told', sa.String(), nullable=False),
        sa.Column('detail', sa.String(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('uid'),
    )
    op.create_index('ix_workitem_study_instance_uid', 'workitem', ['study_instance_uid'])
    op.create_index('ix_workitem_state', 'workitem', ['state'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('workitem')
