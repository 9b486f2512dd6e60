"""What bundles say of a study beside the active ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'shadowlook',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('bundle', sa.String(), nullable=False),
        sa.Column('version', sa.String(), nullable=False),
        sa.Column('digest', sa.String(), nullable=False),
        sa.Column('reason', sa.String(), nullable=False),
        sa.Column('seconds', sa.Float(), nullable=False),
        sa.Column('looked_at', sa.Float(), nullable=False),
        sa.Column('summary', sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('study_id', 'revision', 'bundle'),
    )
    op.create_index('ix_shadow_look_bundle', 'shadowlook', ['bundle', 'looked_at'])
    op.create_index('ix_shadowlook_study_id', 'shadowlook', ['study_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('shadowlook')
