"""Peer: what one usually writes. FastAPI, SQLAlchemy on asyncpg, aio-pika; one publish a request.

As their documentation has it: a session a request (https://fastapi.tiangolo.com/tutorial/sql-databases/),
one engine with its pool (https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html), one robust
connection whose channel confirms what is published (https://docs.aio-pika.com/patterns.html), all
opened in the lifespan; served by uvicorn with uvloop.
"""

import datetime
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import aio_pika
from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUE = "rmq-for-retries"

engine = create_async_engine(os.environ["DATABASE_URL"])
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The base of the tables."""


class Appointment(Base):
    """The table of appointments."""

    __tablename__ = "usual_appointment"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_name: Mapped[str]
    office_number: Mapped[str]
    date_time: Mapped[datetime.datetime]
    doctor_name: Mapped[str | None]
    duration_minutes: Mapped[int] = mapped_column(default=15)


class Booking(BaseModel):
    """What a client sends."""

    patient_name: str
    office_number: str
    date_time: datetime.datetime


class Booked(Booking):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class Listed(Booked):
    """What the list has of each."""

    doctor_name: str | None
    duration_minutes: int


async def session() -> AsyncIterator[AsyncSession]:
    """Give a request its session."""
    async with new_session() as given:
        yield given


Session = Annotated[AsyncSession, Depends(session)]


def message(booking: Booking) -> aio_pika.Message:
    """Return the message that tells of a booking."""
    return aio_pika.Message(
        json.dumps(booking.model_dump(mode="json")).encode(),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def publish(app: FastAPI, booking: Booking) -> None:
    """Tell the queue of a booking, and wait until it is confirmed."""
    await app.state.channel.default_exchange.publish(message(booking), routing_key=QUEUE)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the tables, and keep the connection."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with await aio_pika.connect_robust(os.environ["AMQP_URL"]) as broker:
        app.state.channel = await broker.channel(publisher_confirms=True)
        await app.state.channel.declare_queue(QUEUE, durable=True)
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.state.publish = publish


@app.post("/appointment", status_code=201)
async def create(booking: Booking, session: Session) -> Booked:
    """Book an appointment, then tell of it."""
    appointment = Appointment(**booking.model_dump())
    session.add(appointment)
    await session.commit()
    await app.state.publish(app, booking)
    return Booked.model_validate(appointment)


@app.get("/appointment", response_model=list[Listed])
async def list_all(session: Session) -> Sequence[Appointment]:
    """List all appointments."""
    return (await session.scalars(select(Appointment).order_by(Appointment.id))).all()


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Say that we are here."""
    return {"status": "ready"}
