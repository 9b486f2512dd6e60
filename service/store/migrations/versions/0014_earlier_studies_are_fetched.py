"""Studies that were fetched to be compared with another one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column('study', sa.Column('fetched', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        'fetchedprior',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('for_study_id', sa.Integer(), nullable=False),
        sa.Column('source', sa.String(), nullable=False),
        sa.Column('asked_at', sa.Float(), nullable=False),
        sa.Column('ended_at', sa.Float(), nullable=True),
        sa.Column('images', sa.Integer(), nullable=False),
        sa.Column('used_at', sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(['for_study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('study_instance_uid', 'for_study_id'),
    )
    op.create_index('ix_fetchedprior_study_instance_uid', 'fetchedprior', ['study_instance_uid'])
    op.create_index('ix_fetchedprior_for_study_id', 'fetchedprior', ['for_study_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('fetchedprior')
    op.drop_column('study', 'fetched')
