"""Of which studies images are being sent to which listener."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'sendingnow',
        sa.Column('process', sa.String(), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('until_at', sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint('process', 'study_instance_uid'),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('sendingnow')
