"""Proof of delivery: since when an object at a target is proven, and the transactions of storage commitment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_UNPROVEN = "proven_at IS NULL"


def upgrade() -> None:
    """Go to this revision; what was stored before counts as proven by the answer of then."""
    op.add_column('delivery', sa.Column('proven_at', sa.Float(), nullable=True))
    with op.batch_alter_table('delivery') as table:
        table.add_column(sa.Column('proof', sa.String(), nullable=False, server_default='stored'))
    with op.batch_alter_table('delivery') as table:
        table.alter_column('proof', server_default=None)
    op.execute("UPDATE delivery SET proven_at = stored_at")
    op.create_index('ix_delivery_unproven', 'delivery', ['target'],
                    sqlite_where=sa.text(_UNPROVEN), postgresql_where=sa.text(_UNPROVEN))
    op.create_table('commitment',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('transaction_uid', sa.String(length=64), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('target', sa.String(), nullable=False),
        sa.Column('objects', sa.JSON(), nullable=False),
        sa.Column('asked_at', sa.Float(), nullable=False),
        sa.Column('due_at', sa.Float(), nullable=False),
        sa.Column('taken_at', sa.Float(), nullable=True),
        sa.Column('answered_at', sa.Float(), nullable=True),
        sa.Column('kept', sa.JSON(), nullable=False),
        sa.Column('failed', sa.JSON(), nullable=False),
        sa.Column('judged_at', sa.Float(), nullable=True),
        sa.Column('given_up_at', sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('transaction_uid')
    )
    op.create_index('ix_commitment_study_id', 'commitment', ['study_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('commitment')
    op.drop_index('ix_delivery_unproven', 'delivery')
    with op.batch_alter_table('delivery') as table:
        table.drop_column('proof')
        table.drop_column('proven_at')
