"""An index to find the earlier studies of a patient."""

from __future__ import annotations

from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_index('ix_study_patient', 'study', ['patient_id', 'first_received_at'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index('ix_study_patient', 'study')
