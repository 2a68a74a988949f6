"""The game's tables. The scenario sets NOTE (a new column) and KIND (the length of one that we read)."""

import enum
import os
import uuid
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Enum, ForeignKey, Integer, String, func
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Status(enum.Enum):
    open = "open"
    settled = "settled"


class Game(Base):
    __tablename__ = "games"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(int(os.environ.get("KIND", "64"))))


class Round(Base):
    __tablename__ = "rounds"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    game_id: Mapped[int] = mapped_column(ForeignKey("games.id"))
    status: Mapped[Status] = mapped_column(Enum(Status, name="round_status"))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    extras: Mapped[dict] = mapped_column(JSONB)
    if "NOTE" in os.environ:
        note: Mapped[str | None] = mapped_column(String(20))


class Spin(Base):
    __tablename__ = "spins"
    id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    game_id: Mapped[int] = mapped_column(ForeignKey("games.id"))
    status: Mapped[Status] = mapped_column(Enum(Status, name="round_status"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    extras: Mapped[dict] = mapped_column(JSONB)


class Hand(Base):
    __tablename__ = "hands"
    table_no: Mapped[int] = mapped_column(Integer, primary_key=True)
    hand_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    game_id: Mapped[int] = mapped_column(ForeignKey("games.id"))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    bet: Mapped[int] = mapped_column(Integer)
