"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:  # noqa: PLR0915 - a statement a table
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_keys")),
    )
    op.create_index("ix_access_keys_owner", "access_keys", ["account_id", "user_id", "id"], unique=False)
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index("ux_accounts_name", "accounts", ["name"], unique=True)
    op.create_table(
        "client_tokens",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=96), nullable=False),
        sa.Column("parameter_hash", sa.String(length=64), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "operation", "token", name=op.f("pk_client_tokens")),
    )
    op.create_index(op.f("ix_client_tokens_expires_ms"), "client_tokens", ["expires_ms"], unique=False)
    op.create_table(
        "free_addresses",
        sa.Column("subnet_id", sa.String(length=32), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subnet_id", "low", name=op.f("pk_free_addresses")),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("owner_alias", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("location", sa.String(length=1024), nullable=False),
        sa.Column("architecture", sa.String(length=16), nullable=False),
        sa.Column("virtualization_type", sa.String(length=16), nullable=False),
        sa.Column("root_device_name", sa.String(length=64), nullable=False),
        sa.Column("imds_support", sa.String(length=8), nullable=False),
        sa.Column("ena_support", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
    )
    op.create_index("ix_images_owner", "images", ["account_id", "id"], unique=False)
    op.create_index("ix_images_public", "images", ["public", "id"], unique=False)
    op.create_index("ux_images_name", "images", ["account_id", "name"], unique=True)
    op.create_table(
        "instance_user_data",
        sa.Column("instance_id", sa.String(length=24), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_user_data")),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("reservation_id", sa.String(length=24), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("operation", sa.String(length=12), nullable=False),
        sa.Column("cause_code", sa.String(length=64), nullable=False),
        sa.Column("cause_message", sa.String(length=512), nullable=False),
        sa.Column("cause_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("power", sa.String(length=12), nullable=False),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("reboots", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("unsettled", sa.Boolean(), nullable=False),
        sa.Column("host_id", sa.String(length=96), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reachable", sa.Boolean(), nullable=False),
        sa.Column("reboots_done", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.String(length=24), nullable=False),
        sa.Column("image_id", sa.String(length=24), nullable=False),
        sa.Column("instance_type", sa.String(length=32), nullable=False),
        sa.Column("vpc_id", sa.String(length=24), nullable=False),
        sa.Column("subnet_id", sa.String(length=24), nullable=False),
        sa.Column("private_address", sa.String(length=15), nullable=False),
        sa.Column("key_name", sa.String(length=255), nullable=False),
        sa.Column("launched_ms", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_index(op.f("ix_instances_account_id_id"), "instances", ["account_id", "id"], unique=False)
    op.create_index(
        op.f("ix_instances_account_id_image_id_id"),
        "instances",
        ["account_id", "image_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_account_id_instance_type_id"),
        "instances",
        ["account_id", "instance_type", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_account_id_private_address_id"),
        "instances",
        ["account_id", "private_address", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_account_id_reservation_id_id"),
        "instances",
        ["account_id", "reservation_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_account_id_state_id"), "instances", ["account_id", "state", "id"], unique=False
    )
    op.create_index(
        op.f("ix_instances_account_id_subnet_id_id"),
        "instances",
        ["account_id", "subnet_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_account_id_zone_id"), "instances", ["account_id", "zone", "id"], unique=False
    )
    op.create_index(op.f("ix_instances_host_id_id"), "instances", ["host_id", "id"], unique=False)
    op.create_index(
        "ix_instances_over",
        "instances",
        ["changed_ms", "id"],
        unique=False,
        sqlite_where=sa.text("state = 48"),
        postgresql_where=sa.text("state = 48"),
    )
    op.create_index(
        "ix_instances_unsettled",
        "instances",
        ["zone", "id"],
        unique=False,
        sqlite_where=sa.text("unsettled = 1"),
        postgresql_where=sa.text("unsettled"),
    )
    op.create_table(
        "interface_groups",
        sa.Column("interface_id", sa.String(length=32), nullable=False),
        sa.Column("group_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("interface_id", "group_id", name=op.f("pk_interface_groups")),
    )
    op.create_index(
        "ix_interface_groups_group", "interface_groups", ["group_id", "interface_id"], unique=False
    )
    op.create_table(
        "key_pairs",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "name", name=op.f("pk_key_pairs")),
    )
    op.create_index("ux_key_pairs_id", "key_pairs", ["id"], unique=True)
    op.create_table(
        "network_interfaces",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("subnet_id", sa.String(length=32), nullable=False),
        sa.Column("vpc_id", sa.String(length=32), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("source_dest_check", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("attachment_id", sa.String(length=32), nullable=False),
        sa.Column("attached_ms", sa.BigInteger(), nullable=False),
        sa.Column("device_index", sa.Integer(), nullable=False),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_interfaces")),
    )
    op.create_index("ix_network_interfaces_account", "network_interfaces", ["account_id", "id"], unique=False)
    op.create_index("ix_network_interfaces_instance", "network_interfaces", ["instance_id"], unique=False)
    op.create_index(
        "ux_network_interfaces_address", "network_interfaces", ["subnet_id", "address"], unique=True
    )
    op.create_index("ux_network_interfaces_mac", "network_interfaces", ["mac"], unique=True)
    op.create_table(
        "node_tokens",
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("node_name", sa.String(length=63), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_node_tokens")),
    )
    op.create_index(op.f("ix_node_tokens_expires_ms"), "node_tokens", ["expires_ms"], unique=False)
    op.create_table(
        "security_group_rules",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("group_id", sa.String(length=32), nullable=False),
        sa.Column("egress", sa.Boolean(), nullable=False),
        sa.Column("protocol", sa.String(length=8), nullable=False),
        sa.Column("from_port", sa.Integer(), nullable=False),
        sa.Column("to_port", sa.Integer(), nullable=False),
        sa.Column("peer_kind", sa.String(length=8), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("peer_account", sa.String(length=12), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group_rules")),
    )
    op.create_index(
        "ix_security_group_rules_account", "security_group_rules", ["account_id", "id"], unique=False
    )
    op.create_index(
        "ix_security_group_rules_peer", "security_group_rules", ["peer", "group_id"], unique=False
    )
    op.create_index(
        "ux_security_group_rules_same",
        "security_group_rules",
        ["group_id", "egress", "protocol", "from_port", "to_port", "peer"],
        unique=True,
    )
    op.create_table(
        "security_groups",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("vpc_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
    )
    op.create_index("ix_security_groups_account", "security_groups", ["account_id", "id"], unique=False)
    op.create_index("ux_security_groups_name", "security_groups", ["vpc_id", "name"], unique=True)
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    op.create_table(
        "subnets",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("vpc_id", sa.String(length=32), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("cidr", sa.String(length=18), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("public_ip_on_launch", sa.Boolean(), nullable=False),
        sa.Column("free", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subnets")),
    )
    op.create_index("ix_subnets_account", "subnets", ["account_id", "id"], unique=False)
    op.create_index("ix_subnets_vpc", "subnets", ["vpc_id"], unique=False)
    op.create_table(
        "tags",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "resource_id", "key", name=op.f("pk_tags")),
    )
    op.create_index("ix_tags_value", "tags", ["account_id", "key", "value", "resource_id"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index("ux_users_name", "users", ["account_id", "name_key"], unique=True)
    op.create_table(
        "vpcs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("cidr", sa.String(length=18), nullable=False),
        sa.Column("cidr_association_id", sa.String(length=40), nullable=False),
        sa.Column("dhcp_options_id", sa.String(length=32), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vpcs")),
    )
    op.create_index("ix_vpcs_account", "vpcs", ["account_id", "id"], unique=False)
