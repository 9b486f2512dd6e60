"""Saved views of the list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table('savedview',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('reader', sa.String(), nullable=False),
        sa.Column('name', sa.String(), nullable=False),
        sa.Column('query', sa.String(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('reader', 'name')
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('savedview')
