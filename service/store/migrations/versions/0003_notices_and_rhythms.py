"""Add what others announce of a study, and how senders send; a study is open until it is judged complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

_OPEN = "completed_at IS NULL"


def upgrade() -> None:
    """Go to this revision."""
    op.execute("UPDATE study SET completed_at = NULL WHERE state = 'receiving'")
    op.create_index('ix_study_open', 'study', ['first_received_at'],
                    sqlite_where=sa.text(_OPEN), postgresql_where=sa.text(_OPEN))
    op.create_table('notice',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('uid', sa.String(length=64), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('calling_aet', sa.String(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('received_at', sa.Float(), nullable=False),
        sa.Column('listed', sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('kind', 'uid', 'study_instance_uid')
    )
    op.create_index('ix_notice_study_instance_uid', 'notice', ['study_instance_uid'])
    op.create_table('rhythm',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('calling_aet', sa.String(), nullable=False),
        sa.Column('modality', sa.String(), nullable=False),
        sa.Column('images', sa.Integer(), nullable=False),
        sa.Column('study_pause_s', sa.Float(), nullable=False),
        sa.Column('series_pause_s', sa.Float(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('study_id', 'calling_aet', 'modality')
    )
    op.create_index('ix_rhythm_sender', 'rhythm', ['calling_aet', 'modality', 'at'])
    op.create_index('ix_rhythm_study_id', 'rhythm', ['study_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('rhythm')
    op.drop_table('notice')
    op.drop_index('ix_study_open', 'study')
