"""Short texts in many languages, and the encodings that they are written in beside UTF-8."""

from __future__ import annotations

ENGLISH = (
    "The harbour master kept two ledgers. One was for ships and one was for weather, and he trusted the second more "
    "than the first. A ship can be late for a hundred reasons; the wind has only one."
)
GERMAN = "Die Bäckerei öffnet um fünf Uhr früh. Größere Bestellungen für das Straßenfest übernimmt die Müllerin selbst."
FRENCH = "L’été dernier, la boulangère a brûlé trois fournées; depuis, elle règle le four à côté de la fenêtre."
SPANISH = "El pequeño tren salió a las ocho y llegó con niebla a la estación; ningún pasajero se quejó del año perdido."
PORTUGUESE = "A senhora não pôde abrir o portão porque a chave estava com o irmão, que só voltaria amanhã de manhã."
DUTCH = "De veerman telde drieëntwintig reizigers en één geëtiketteerde koffer die niemand meer wilde meenemen."
POLISH = "Źródło rzeki leży w górach, a jej ujście w mieście, gdzie łódki czekają na gości aż do późnej jesieni."
CZECH = "Příští vlak přijede v šest hodin večer, řekl průvodčí a zavřel dveře vozu, ve kterém už nikdo neseděl."
HUNGARIAN = "Az őrült szél egész éjjel fújt, és reggelre a kőműves tetőjéről minden cserép a szűk utcára hullott."
TURKISH = "Işıklı çarşıda güneş batarken şoför, İstanbul'a giden son otobüsün geciktiğini sessizce söyledi."
LITHUANIAN = "Žuvėdros grįžo į uostą, kai žvejų laivai išplaukė; šįkart jūra buvo rami, o dangus giedras ir žydras."
GREEK = "Ο γέρος καπετάνιος μετρούσε τα κύματα και έλεγε πως κάθε έβδομο φέρνει μαζί του ένα παλιό τραγούδι."
RUSSIAN = (
    "Старый мельник каждое утро выходил к реке и считал лодки. Если лодок было меньше семи, он возвращался домой и "
    "не работал до обеда, потому что верил в приметы больше, чем в календарь."
)
UKRAINIAN = (
    "Щоранку пекарка ґречно віталася з сусідами, її хліб пахнув на всю вулицю, і кожен, хто йшов повз крамницю, "
    "зупинявся хоча б на хвилину, щоб запитати, чи є ще теплі булочки з маком."
)
BULGARIAN = "Мелничарят всяка сутрин броеше лодките по реката, преди да отвори вратата на старата мелница в селото."
HEBREW = "הטוחן הזקן ספר בכל בוקר את הסירות בנהר, ואם היו פחות משבע חזר הביתה ולא עבד עד הצהריים."
ARABIC = "كان الطحان العجوز يعد القوارب في النهر كل صباح، وإذا كانت أقل من سبعة عاد إلى بيته ولم يعمل حتى الظهر."
THAI = "ทุกเช้าคนโม่แป้งชราเดินไปที่แม่น้ำและนับเรือ ถ้ามีน้อยกว่าเจ็ดลำเขาก็กลับบ้าน"
JAPANESE = (
    "粉屋の老人は毎朝、川へ行って舟を数えた。七艘より少なければ家に帰り、昼まで働かなかった。"
    "暦よりも前触れを信じていたからである。"
)
CHINESE = "磨坊的老人每天早上到河边数船。如果船少于七条，他就回家，直到中午才开始工作，因为他相信征兆胜过相信日历。"
TRADITIONAL = "磨坊的老人每天早上到河邊數船。如果船少於七條，他就回家，直到中午才開始工作，因為他相信徵兆勝過相信日曆。"
KOREAN = "방앗간 노인은 아침마다 강가에 나가 배를 세었다. 배가 일곱 척보다 적으면 집으로 돌아가 점심때까지 쉬었다."

LANGUAGES = {
    "English": ENGLISH, "German": GERMAN, "French": FRENCH, "Spanish": SPANISH, "Portuguese": PORTUGUESE,
    "Dutch": DUTCH, "Polish": POLISH, "Czech": CZECH, "Hungarian": HUNGARIAN, "Turkish": TURKISH,
    "Lithuanian": LITHUANIAN, "Greek": GREEK, "Russian": RUSSIAN, "Ukrainian": UKRAINIAN, "Bulgarian": BULGARIAN,
    "Hebrew": HEBREW, "Arabic": ARABIC, "Thai": THAI, "Japanese": JAPANESE, "Chinese": CHINESE,
    "Traditional Chinese": TRADITIONAL, "Korean": KOREAN,
}  # fmt: skip

LEGACY = (
    (GERMAN, "cp1252"), (GERMAN, "iso8859_1"), (GERMAN, "iso8859_15"), (GERMAN, "mac_roman"), (GERMAN, "cp850"),
    (SPANISH, "iso8859_1"), (PORTUGUESE, "iso8859_1"), (DUTCH, "iso8859_1"), (FRENCH, "cp1252"),
    (POLISH, "cp1250"), (POLISH, "iso8859_2"), (POLISH, "cp852"),
    (CZECH, "cp1250"), (CZECH, "iso8859_2"), (HUNGARIAN, "cp1250"), (HUNGARIAN, "iso8859_2"),
    (TURKISH, "cp1254"), (TURKISH, "iso8859_9"),
    (LITHUANIAN, "cp1257"),
    (GREEK, "cp1253"), (GREEK, "iso8859_7"),
    (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r"), (RUSSIAN, "cp866"), (RUSSIAN, "iso8859_5"),
    (UKRAINIAN, "cp1251"), (BULGARIAN, "cp1251"),
    (HEBREW, "cp1255"), (ARABIC, "cp1256"),
    (JAPANESE, "cp932"), (JAPANESE, "euc_jp"), (JAPANESE, "iso2022_jp"),
    (CHINESE, "gb18030"), (TRADITIONAL, "big5"), (KOREAN, "cp949"), (KOREAN, "iso2022_kr"),
    (ENGLISH, "cp500"),
)  # fmt: skip
"""A text and an encoding in which nothing says what it is: it has to be guessed."""


def paragraphs(text: str, characters: int) -> str:
    """A text of at least this length, in numbered paragraphs."""
    count = -(-characters // (len(text) + 6))
    return "".join(f"{number}. {text}\n\n" for number in range(1, count + 1))
