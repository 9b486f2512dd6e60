"""What others send back for a study; accounts that the identity provider vouches for; links that let in once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'correction',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('sop_class_uid', sa.String(), nullable=False),
        sa.Column('sop_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('path', sa.String(), nullable=False),
        sa.Column('calling_aet', sa.String(), nullable=False),
        sa.Column('received_at', sa.Float(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('detail', sa.String(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('judged_at', sa.Float(), nullable=True),
        sa.Column('told', sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('sop_instance_uid'),
    )
    op.create_index('ix_correction_study_id', 'correction', ['study_id'])
    op.create_index('ix_correction_waiting', 'correction', ['id'], sqlite_where=sa.text("state = 'waiting'"),
                    postgresql_where=sa.text("state = 'waiting'"))
    with op.batch_alter_table('account') as table:
        table.add_column(sa.Column('subject', sa.String(length=64), nullable=True))
        table.create_unique_constraint('account_subject_key', ['subject'])
    op.create_table(
        'loginlink',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('account_id', sa.Integer(), nullable=False),
        sa.Column('ends_at', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['account_id'], ['account.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('digest'),
    )
    op.create_index('ix_loginlink_account_id', 'loginlink', ['account_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('loginlink')
    with op.batch_alter_table('account') as table:
        table.drop_constraint('account_subject_key', type_='unique')
        table.drop_column('subject')
    op.drop_table('correction')
