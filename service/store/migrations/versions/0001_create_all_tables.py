"""Create all tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None

_OPEN = "state IN ('waiting', 'leased')"


def upgrade() -> None:
    """Go to this revision."""
    op.create_table('study',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('patient_id', sa.String(), nullable=False),
        sa.Column('issuer_of_patient_id', sa.String(), nullable=False),
        sa.Column('patient_name', sa.String(), nullable=False),
        sa.Column('patient_birth_date', sa.String(), nullable=False),
        sa.Column('patient_sex', sa.String(), nullable=False),
        sa.Column('accession_number', sa.String(), nullable=False),
        sa.Column('study_date', sa.String(), nullable=False),
        sa.Column('study_time', sa.String(), nullable=False),
        sa.Column('study_description', sa.String(), nullable=False),
        sa.Column('modality', sa.String(), nullable=False),
        sa.Column('calling_aet', sa.String(), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('input_digest', sa.String(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('state_reason', sa.String(), nullable=False),
        sa.Column('state_detail', sa.String(), nullable=False),
        sa.Column('delivery', sa.String(), nullable=False),
        sa.Column('delivery_detail', sa.String(), nullable=False),
        sa.Column('ordered_priority', sa.String(), nullable=False),
        sa.Column('urgency', sa.String(), nullable=False),
        sa.Column('urgency_rank', sa.Integer(), nullable=False),
        sa.Column('urgency_reason', sa.String(), nullable=False),
        sa.Column('reading_urgency', sa.String(), nullable=False),
        sa.Column('reading_rank', sa.Integer(), nullable=False),
        sa.Column('flag', sa.String(), nullable=False),
        sa.Column('first_received_at', sa.Float(), nullable=False),
        sa.Column('last_received_at', sa.Float(), nullable=False),
        sa.Column('receiving_since_at', sa.Float(), nullable=False),
        sa.Column('completed_at', sa.Float(), nullable=True),
        sa.Column('deadline_at', sa.Float(), nullable=True),
        sa.Column('started_at', sa.Float(), nullable=True),
        sa.Column('assessed_at', sa.Float(), nullable=True),
        sa.Column('delivered_at', sa.Float(), nullable=True),
        sa.Column('summary', sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('study_instance_uid')
    )
    op.create_index('ix_study_reading', 'study', ['reading_rank', 'first_received_at'])
    op.create_index('ix_study_state', 'study', ['state'])
    op.create_table('event',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('stage', sa.String(), nullable=False),
        sa.Column('text', sa.String(), nullable=False),
        sa.Column('data', sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_event_study_id', 'event', ['study_id'])
    op.create_table('instance',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('sop_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('series_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('size_bytes', sa.BigInteger(), nullable=False),
        sa.Column('path', sa.String(), nullable=False),
        sa.Column('received_at', sa.Float(), nullable=False),
        sa.Column('calling_aet', sa.String(), nullable=False),
        sa.Column('header', sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('sop_instance_uid')
    )
    op.create_index('ix_instance_study_id', 'instance', ['study_id'])
    op.create_table('job',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('key', sa.String(), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('target', sa.String(), nullable=False),
        sa.Column('urgency', sa.String(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('queued_at', sa.Float(), nullable=False),
        sa.Column('deadline_at', sa.Float(), nullable=False),
        sa.Column('not_before_at', sa.Float(), nullable=False),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.Column('lease_owner', sa.String(), nullable=False),
        sa.Column('lease_until_at', sa.Float(), nullable=False),
        sa.Column('started_at', sa.Float(), nullable=True),
        sa.Column('ended_at', sa.Float(), nullable=True),
        sa.Column('reason', sa.String(), nullable=False),
        sa.Column('detail', sa.String(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('key')
    )
    op.create_index('ix_job_open', 'job', ['kind', 'deadline_at', 'id'],
                    sqlite_where=sa.text(_OPEN), postgresql_where=sa.text(_OPEN))
    op.create_index('ix_job_study_id', 'job', ['study_id'])
    op.create_table('resultobject',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('study_id', sa.Integer(), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('kind', sa.String(), nullable=False),
        sa.Column('sop_class_uid', sa.String(), nullable=False),
        sa.Column('sop_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('path', sa.String(), nullable=False),
        sa.Column('summary', sa.String(), nullable=False),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['study_id'], ['study.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('sop_instance_uid'),
        sa.UniqueConstraint('study_id', 'revision', 'sop_instance_uid')
    )
    op.create_index('ix_resultobject_study_id', 'resultobject', ['study_id'])
    op.create_table('delivery',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('result_object_id', sa.Integer(), nullable=False),
        sa.Column('target', sa.String(), nullable=False),
        sa.Column('stored_at', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['result_object_id'], ['resultobject.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('result_object_id', 'target')
    )
    op.create_index('ix_delivery_result_object_id', 'delivery', ['result_object_id'])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table('delivery')
    op.drop_table('resultobject')
    op.drop_table('job')
    op.drop_table('instance')
    op.drop_table('event')
    op.drop_table('study')
