"""When the images of a study were deleted; the path of an image that is gone is empty."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column('study', sa.Column('images_deleted_at', sa.Float(), nullable=True))


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table('study') as table:
        table.drop_column('images_deleted_at')
