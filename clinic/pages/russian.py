"""The Russian texts, by what they say in English."""

from collections.abc import Mapping

# What the API says of a day and a time that are none; # stands for a number. A form needs no more.
NO_TIME = (
    "must be a date and time such as #-#-#T#:#:#, from #:# to #:#, or with an offset such as "
    "#-#-#T#:#:#+#:#"
)

# A few would have two meanings if they were shorter; none is longer than its place.
TEXTS: Mapping[str, str] = {
    # Every page
    "Clinic": "Клиника",
    "Skip to the content": "Перейти к содержанию",
    "Pages": "Страницы",
    "Day": "День",
    "Find": "Найти",
    "Find a patient": "Найти пациента",
    "Name, or end of the phone": "Имя или конец телефона",
    "Book": "Записать",
    "Sign out": "Выйти",
    # Signing in
    "Sign in": "Войти",
    "Token": "Токен",
    "Whoever runs the clinic makes a token for you. It begins with clinic_.": (
        "Токен для вас делает тот, кто обслуживает клинику. Он начинается с clinic_."
    ),
    "This token does not count: it is misspelt, revoked or expired.": (
        "Этот токен не подходит: он написан с ошибкой, отозван или истёк."
    ),
    "Your token may not do this": "Ваш токен этого не позволяет",
    "It needs a token with another permission. Sign out, then sign in with that one.": (
        "Нужен токен с другим разрешением. Выйдите и войдите с ним."
    ),
    "Too often": "Слишком часто",
    "Too many requests came from here. Nothing was changed. Wait a minute, and try again.": (
        "Отсюда пришло слишком много запросов. Ничего не изменено. Подождите минуту и повторите."
    ),
    # A day
    "Today": "Сегодня",
    "The day before": "Предыдущий день",
    "The day after": "Следующий день",
    "Go to a day": "Перейти к дню",
    "Go": "Перейти",
    "Week": "Неделя",
    "How the day is shown": "Как показан день",
    "Grid": "Сетка",
    "List": "Список",
    "Side by side": "Что стоит рядом",
    "Offices": "Кабинеты",
    "Doctors": "Врачи",
    "Appointments": "Записи",
    "Hide cancelled": "Скрыть отменённые",
    "As of {time}": "На {time}",
    "As of {time}. The connection is lost.": "На {time}. Связь потеряна.",
    "Live": "Обновляется,",
    "Choose a free time for {patient}, {time}.": "Выберите свободное время: {patient}, {time}.",
    "Do not move": "Не переносить",
    (
        "Nothing is booked, and no office or doctor is known yet. The first booking makes them "
        "known."
    ): "Записей нет, и пока не известен ни один кабинет или врач. Они появятся с первой записью.",
    "Nothing is booked on this day.": "На этот день записей нет.",
    "The day, hour by hour": "День по часам",
    "No doctor": "Без врача",
    "Overbooked": "Сверх записи",
    "Type and note": "Вид и примечание",
    "What comes next": "Что дальше",
    # Where a patient is
    "Expected": "Ожидается",
    "Late": "Опаздывает",
    "Waiting": "Ждёт",
    "In the room": "На приёме",
    "No outcome": "Без итога",
    "Done": "Завершён",
    "Did not come": "Неявка",
    "Cancelled": "Отменён",
    # What can be done
    "Arrived": "На месте",
    "Call in": "Пригласить",
    "Finish": "Завершить",
    "Cancel": "Отменить",
    "Undo": "Вернуть",
    "Not here yet": "Ещё не пришёл",
    "Back to waiting": "Снова ждёт",
    "Back to the room": "Снова на приём",
    "Expect again": "Снова ожидать",
    "Restore": "Восстановить",
    "Open": "Открыть",
    "Move": "Перенести",
    "Change": "Изменить",
    "Book again": "Записать снова",
    "Book again for {patient}": "Записать снова: {patient}",
    "Back": "Назад",
    # What has happened
    "Booked": "Записан",
    "This stood in the book already": "Эта запись уже есть",
    "Moved": "Перенесён",
    "Changed": "Изменён",
    "What happened": "Что было",
    "Name corrected": "Исправлено имя",
    "Phone or note changed": "Изменён телефон или примечание",
    "Given to another doctor": "Передан другому врачу",
    "Moved or changed": "Перенос или изменение",
    "Expected again": "Снова ожидается",
    "Called in": "Приглашён",
    "Finished": "Приём завершён",
    # Keys
    "Keys": "Клавиши",
    "The day before, the day after": "Предыдущий день, следующий день",
    "Grid or list": "Сетка или список",
    "From one appointment or free time to the next": "К соседней записи или свободному времени",
    "These keys": "Эти клавиши",
    "Keys act on the appointment that has the focus: reach it with Tab or with a click.": (
        "Клавиши действуют на запись в фокусе: к ней ведёт Tab или щелчок."
    ),
    "Keys are on": "Клавиши включены",
    "Close": "Закрыть",
    # An appointment, and the form
    "Book an appointment": "Новая запись",
    "Change an appointment": "Изменение записи",
    "optional": "не обязательно",
    "Patient": "Пациент",
    "Phone": "Телефон",
    "Office": "Кабинет",
    "office {office}": "кабинет {office}",
    "Doctor": "Врач",
    "Type": "Вид приёма",
    "Day and time": "День и время",
    "Time": "Время",
    "Minutes": "Минуты",
    "Empty: as long as the type, or {n}": "Пусто: по виду приёма или {n}",
    "Note": "Примечание",
    "Number": "Номер",
    "Status": "Состояние",
    "Reason to book it all the same": "Причина записать всё равно",
    "Only if it is meant: with a reason it is booked in spite of the conflict.": (
        "Только если так и нужно: с причиной запись будет сделана вопреки препятствию."
    ),
    "Free times": "Свободное время",
    "With this office and doctor": "В этом кабинете, у этого врача",
    "The first of any office and doctor": "Ближайшее в любом кабинете, у любого врача",
    "None was found in the next weeks.": "В ближайшие недели не найдено.",
    "A button takes that time with what is filled in below.": (
        "Кнопка записывает на это время с тем, что заполнено ниже."
    ),
    "The clinic is closed": "Клиника закрыта",
    "The office is closed": "Кабинет закрыт",
    "The doctor does not work": "Врач не принимает",
    "Opening hours": "Часы работы",
    "Names like it": "Похожие названия",
    "Save": "Сохранить",
    # Finding
    (
        "Beginnings of the name's words in any order, such as “iva pet”, or at least three last "
        "digits of the phone number."
    ): "Начала слов имени в любом порядке, например «ива пет», или не меньше трёх последних цифр "
    "телефона.",
    (
        "Nobody was found. Try a shorter beginning of the name, or the end of the phone number."
    ): "Никто не найден. Попробуйте более короткое начало имени или конец телефона.",
    "Today and later": "Сегодня и позже",
    "Nothing is to come.": "Предстоящих записей нет.",
    "Before today": "До сегодня",
    "Nothing before today.": "До сегодняшнего дня ничего нет.",
    "There are more. Write more of the name to find fewer.": (
        "Есть ещё. Напишите больше букв имени, чтобы найти меньше."
    ),
    # Refusals
    "Somebody else was quicker": "Кто-то успел раньше",
    (
        "This appointment was changed on another screen in the meantime. Nothing was changed by "
        "you. Look at it as it is now, and then change it if that is still right."
    ): "За это время запись изменили на другом экране. Вы ничего не изменили. Посмотрите на неё, "
    "как она есть сейчас, и измените, если это всё ещё верно.",
    "That cannot follow": "Так нельзя",
    (
        "From where this appointment is now it cannot come to what you chose. Nothing was changed."
    ): "Из нынешнего состояния запись не может перейти в выбранное. Ничего не изменено.",
    "That time is taken": "Это время занято",
    (
        "Another appointment has the office or the doctor at that time. Nothing was changed."
    ): "В это время кабинет или врач занят другой записью. Ничего не изменено.",
    "Closed at that time": "В это время закрыто",
    (
        "The clinic, the office or the doctor does not work at that time. Nothing was changed."
    ): "Клиника, кабинет или врач в это время не работает. Ничего не изменено.",
    "It is not booked any more": "Сюда больше не записывают",
    (
        "The office, the doctor or the type was taken out of use. Choose another one. Nothing was "
        "changed."
    ): "Кабинет, врач или вид приёма больше не используется. Выберите другой. Ничего не изменено.",
    "There is no such office or doctor": "Такого кабинета или врача нет",
    (
        "The clinic does not know this name. Choose one that is known, or have it registered. "
        "Nothing was changed."
    ): "Клиника не знает этого названия. Выберите известное или попросите его добавить. Ничего не "
    "изменено.",
    "Something is not filled in as it should be": "Что-то заполнено не так",
    (
        "Correct what is marked, and send it again. Nothing was changed."
    ): "Исправьте отмеченное и отправьте ещё раз. Ничего не изменено.",
    "This form was used before": "Эта форма уже использована",
    (
        "An appointment was booked with this very form, and something in it is different now. Open "
        "a new form for another appointment."
    ): "По этой форме уже сделана запись, а теперь в ней что-то другое. Для другой записи откройте "
    "новую форму.",
    "There is no such appointment": "Такой записи нет",
    (
        "Nothing in the book has this number. Look for it by the name of the patient."
    ): "Записи с таким номером нет. Найдите её по имени пациента.",
    "There is nothing at this address": "По этому адресу ничего нет",
    (
        "Look whether the address is right, or begin with today."
    ): "Проверьте адрес или начните с сегодняшнего дня.",
    "Not now": "Не сейчас",
    (
        "The book cannot be reached right now. Nothing was changed. Wait a moment, and try again."
    ): "Сейчас до записей не добраться. Ничего не изменено. Подождите и попробуйте ещё раз.",
    "This may have been done or not": "Неизвестно, сделано ли это",
    (
        "The book did not answer in time. Send the same again: what was done is not done twice."
    ): "Ответ не пришёл вовремя. Отправьте то же самое ещё раз: дважды это сделано не будет.",
    "This did not work": "Не получилось",
    (
        "The clinic could not do what the browser asked for. Look whether it was done, before you "
        "try again."
    ): "Клиника не смогла сделать то, о чём попросил браузер. Прежде чем повторить, посмотрите, "
    "сделано ли это.",
    # What is wrong with a field; numbers are written as #
    "is required": "нужно заполнить",
    "must not be empty": "нужно заполнить",
    "must be a whole number": "должно быть целым числом",
    "must have at most # characters": "не больше # знаков",
    "must be one line of text, without control characters": "одна строка без служебных знаков",
    "must be from # to # minutes": "от # до # минут",
    "must have at least # digits": "не меньше # цифр",
    "is no date and time that exists": "нет такого дня и времени",
    "must be in the years # to #": "годы от # до #",
    NO_TIME: "нужны день и время",
    "is skipped by the clocks of #, which go forward over it": (
        "такого времени нет: часы #, идущие вперёд, его пропускают"
    ),
    (
        "is the second #:# of that night in #, whose clocks go back; the book holds only the first"
    ): "это второе #:# той ночи (#, часы идут назад): в книге есть только первое",
    "is no appointment type; there are:": "нет такого вида приёма; есть:",
    "does not offer": "здесь не ведут приём вида",
}

PLURALS: Mapping[str, tuple[str, ...]] = {
    "{n} minutes": ("{n} минута", "{n} минуты", "{n} минут"),
}


def plural(n: int) -> int:
    """Return which form goes with a number: 1 запись, 2 записи, 5 записей.

    See https://www.unicode.org/cldr/charts/latest/supplemental/language_plural_rules.html#ru.
    """
    if n % 10 == 1 and n % 100 != 11:  # noqa: PLR2004 - the rule's own numbers
        return 0
    return 1 if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else 2


WEEKDAYS = (
    *("понедельник", "вторник", "среда", "четверг"),
    *("пятница", "суббота", "воскресенье"),
)
SHORT_WEEKDAYS = ("пн", "вт", "ср", "чт", "пт", "сб", "вс")
MONTHS = (
    *("января", "февраля", "марта", "апреля", "мая", "июня"),
    *("июля", "августа", "сентября", "октября", "ноября", "декабря"),
)
SHORT_MONTHS = (
    *("янв.", "февр.", "марта", "апр.", "мая", "июня"),
    *("июля", "авг.", "сент.", "окт.", "нояб.", "дек."),
)
