"""How many images fell into each bin of a bundle's reference, by day, scanner and site."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'driftcount',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('bundle', sa.String(), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('scanner', sa.String(), nullable=False),
        sa.Column('site', sa.String(), nullable=False),
        sa.Column('day', sa.Integer(), nullable=False),
        sa.Column('images', sa.Integer(), nullable=False),
        sa.Column('counts', sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('bundle', 'digest', 'scanner', 'site', 'day'),
    )
    op.create_index('ix_driftcount_day', 'driftcount', ['day'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index('ix_driftcount_day', 'driftcount')
    op.drop_table('driftcount')
