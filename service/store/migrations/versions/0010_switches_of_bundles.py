"""Which bundles read a kind of study, switched while the service runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'activation',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('bundles', sa.JSON(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('who', sa.String(), nullable=False),
        sa.Column('rolled_back', sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('activation')
