"""Accounts, their sessions and tokens, and logins that failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        'account',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('name', sa.String(64), nullable=False),
        sa.Column('role', sa.String(), nullable=False),
        sa.Column('password_hash', sa.String(), nullable=False),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('password_set_at', sa.Float(), nullable=True),
        sa.Column('disabled_at', sa.Float(), nullable=True),
        sa.UniqueConstraint('name'),
    )
    op.create_table(
        'loginsession',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('digest', sa.String(64), nullable=False),
        sa.Column('account_id', sa.Integer(), sa.ForeignKey('account.id'), nullable=False),
        sa.Column('started_at', sa.Float(), nullable=False),
        sa.Column('seen_at', sa.Float(), nullable=False),
        sa.Column('ends_at', sa.Float(), nullable=False),
        sa.UniqueConstraint('digest'),
    )
    op.create_index('ix_loginsession_account_id', 'loginsession', ['account_id'])
    op.create_index('ix_loginsession_ends_at', 'loginsession', ['ends_at'])
    op.create_table(
        'accesstoken',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('digest', sa.String(64), nullable=False),
        sa.Column('account_id', sa.Integer(), sa.ForeignKey('account.id'), nullable=False),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('ends_at', sa.Float(), nullable=True),
        sa.Column('revoked_at', sa.Float(), nullable=True),
        sa.UniqueConstraint('digest'),
    )
    op.create_index('ix_accesstoken_account_id', 'accesstoken', ['account_id'])
    op.create_table(
        'logintry',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('about', sa.String(80), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
    )
    op.create_index('ix_logintry_about', 'logintry', ['about', 'at'])


def downgrade() -> None:
    """Go back to the revision before."""
    for table in ('logintry', 'accesstoken', 'loginsession', 'account'):
        op.drop_table(table)
